/** `radixkv plan`: the capacity model of a load, with its arithmetic. */
import { z } from 'zod';
import { bytes, percent } from '#dashboard';
import type { ServeOptions } from '../config/options.js';
import { messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';
import { readManifest } from '../model/manifest.js';
import { type PlanInput, type PlanLine, planCapacity } from '../plan/capacity.js';
import { type PlanOptions, type PlanOptionTexts, parsePlanOptions } from '../plan/plan-options.js';
import { openRegistry } from './models.js';
import type { Terminal } from './terminal.js';

/** Of the default model on two cores (README, Numbers), an SSD there, and a Redis in the same network. */
const DEFAULT_SPEEDS = { prefill: 400, disk: 888e6, remote: 300e6 };
const ANSWER_TIMEOUT_MS = 5000;

const SPEEDS = z.object({
  disk: z
    .object({
      prefill_tokens_per_second: z.number().nullable(),
      load_bytes_per_second: z.number().nullable(),
    })
    .nullable(),
  remote: z.object({ load_bytes_per_second: z.number().nullable() }).nullable().optional(),
});
type Speeds = Partial<Record<keyof typeof DEFAULT_SPEEDS, number>>;

export interface PlanChoices extends PlanOptionTexts {
  readonly json?: true;
  /** A running server, whose measured speeds are taken. */
  readonly url?: string;
}

/**
 * @throws RadixkvError `invalid_value` for bad options, or a server that can't be read; `model_not_found` where neither a
 * model of the name nor a shape is given.
 */
export async function runPlan(
  options: ServeOptions,
  choices: PlanChoices,
  key: string | undefined,
  terminal: Terminal,
): Promise<void> {
  const plan = parsePlanOptions(choices);
  const shape = await shapeOf(options, plan);
  const measured = choices.url === undefined ? {} : await speedsOf(choices.url, key);
  const input: PlanInput = {
    ...plan,
    ...shape,
    chunkTokens: options.chunkTokens,
    deviceBytes: options.deviceBytes,
    hostBytes: options.hostBytes,
    diskBytes: options.diskBytes,
    prefillTokensPerSecond: plan.prefillSpeed ?? measured.prefill ?? DEFAULT_SPEEDS.prefill,
    diskReadBytesPerSecond: plan.diskSpeed ?? measured.disk ?? DEFAULT_SPEEDS.disk,
    remoteBytesPerSecond: plan.remoteSpeed ?? measured.remote ?? DEFAULT_SPEEDS.remote,
    remoteLatencyMs: plan.remoteLatency,
    redisMemoryBytes: plan.redisMemory,
    redisNetworkBytesPerSecond: plan.redisNetwork,
  };
  const lines = planCapacity(input);
  if (choices.json) terminal.print(JSON.stringify({ input, lines }, null, 2));
  else for (const line of planLines(lines)) terminal.print(line);
}

/** Sections of lines: what, how much, and how it follows. */
export function planLines(lines: readonly PlanLine[]): string[] {
  const width = Math.max(...lines.map(({ label }) => label.length));
  return lines.flatMap((line, i) => {
    const text = `  ${line.label.padEnd(width)}  ${quantity(line)}`;
    const heading =
      i > 0 && lines[i - 1]!.section === line.section ? [] : [...(i > 0 ? [''] : []), line.section];
    return [...heading, text, `    = ${line.formula}`];
  });
}

function quantity({ unit, value }: PlanLine): string {
  if (unit === 'bytes') return bytes(value);
  if (unit === 'bytes/s') return `${bytes(value)}/s`;
  if (unit === 'share') return percent(value);
  const digits = value >= 100 || Number.isInteger(value) ? 0 : value >= 1 ? 1 : 3;
  const text = value.toLocaleString('en', { maximumFractionDigits: digits });
  return unit === 'count' ? text : `${text} ${unit}`;
}

type Shape = Pick<PlanInput, 'layers' | 'kvHeads' | 'headDim' | 'kvType'>;

async function shapeOf(options: ServeOptions, { layers, kvHeads, headDim }: PlanOptions): Promise<Shape> {
  if (layers !== undefined && kvHeads !== undefined && headDim !== undefined)
    return { layers, kvHeads, headDim, kvType: 'float16' };
  if (layers !== undefined || kvHeads !== undefined || headDim !== undefined)
    throw new RadixkvError('invalid_value', '--layers, --kv-heads and --head-dim go together');
  const model = await openRegistry(options).find(options.model);
  if (model === undefined) {
    throw new RadixkvError(
      'model_not_found',
      `no model "${options.model}" in ${options.modelsDir}; import it, or give --layers, --kv-heads and --head-dim`,
    );
  }
  const { spec, kvType } = await readManifest(model.directory);
  return { layers: spec.layers, kvHeads: spec.kvHeads, headDim: spec.headDim, kvType };
}

/** What a server has measured so far. */
async function speedsOf(url: string, key: string | undefined): Promise<Speeds> {
  try {
    const response = await fetch(new URL('v1/cache/stats', url.replace(/\/*$/, '/')), {
      headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    });
    if (!response.ok) throw new Error(`it answers ${response.status}`);
    const { disk, remote } = SPEEDS.parse(await response.json());
    const [prefill, loads, remoteLoads] = [
      disk?.prefill_tokens_per_second,
      disk?.load_bytes_per_second,
      remote?.load_bytes_per_second,
    ];
    return {
      ...(prefill != null && { prefill }),
      ...(loads != null && { disk: loads }),
      ...(remoteLoads != null && { remote: remoteLoads }),
    };
  } catch (cause) {
    throw new RadixkvError('invalid_value', `--url ${url} can't be read: ${messageOf(cause)}`, { cause });
  }
}
