/**
 * The same prompts on the CPU and on a GPU, in one process: time to the first token, decode speed, whether the greedy
 * text is the same, and what a decoded token takes over the bus. The tiny model in float32, and where the GPU is one,
 * a real model.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseServeOptions } from '../src/config/options.js';
import {
  type ChosenDevice,
  chooseDevice,
  type GpuProvider,
  probeDevice,
  whyNotAuto,
} from '../src/engine/device-probe.js';
import { importModel } from '../src/model/importer.js';
import { readManifest } from '../src/model/manifest.js';
import { createBackend } from '../src/server.js';
import type { CompletionRequest } from '../src/serving/completion.js';
import { benchRequest } from './request.js';
import { median } from './statistics.js';
import { digits } from './table.js';
import { TINY_SOURCE } from './tiny.js';

interface Run {
  readonly ttftMs: number;
  readonly decodeTokensPerS: number;
  readonly texts: readonly string[];
  /** Of a decoded token, by way; undefined on the CPU. */
  readonly busBytesPerToken: Readonly<Record<string, number>> | undefined;
}

export interface DeviceRow {
  readonly model: string;
  readonly promptTokens: number;
  readonly cpu: Run;
  readonly gpu: Run;
  readonly sameTexts: number;
  readonly prompts: number;
  /** What a token may take: its logits and one KV row. */
  readonly busBytesAtMost: number;
}

export interface DeviceBench {
  readonly adapter: string;
  readonly rows: readonly DeviceRow[];
}

export async function deviceBench(options: {
  readonly provider: GpuProvider;
  readonly threads: number;
  readonly quick: boolean;
  /** The file of the real model, fetched when it is needed. */
  readonly gguf: () => Promise<string>;
  /** Measures the real model on a software GPU too. */
  readonly wantsReal: boolean;
  readonly onNotice: (message: string) => void;
}): Promise<DeviceBench> {
  const { provider, onNotice } = options;
  const gpu = await chooseDevice(provider);
  const isSoftware = whyNotAuto(await probeDevice({ provider, measures: false }))?.includes('CPU') ?? false;
  const adapter = (gpu.kind === 'cpu' ? undefined : gpu.adapter) ?? 'unknown adapter';
  onNotice(`${provider}: ${adapter}`);
  const place = await mkdtemp(join(tmpdir(), 'radixkv-device-'));
  try {
    const tiny = await mkdtemp(join(place, 'tiny-'));
    // Nothing but the order of sums is then different on the two devices, so that the texts can be compared.
    await importModel({ path: TINY_SOURCE, directory: tiny, weights: 'float32', kvType: 'float32' });
    const models = [{ name: 'tiny', directory: tiny, tokens: [64, 512] }];
    if (options.wantsReal || !isSoftware) {
      const directory = await mkdtemp(join(place, 'real-'));
      await importModel({ path: await options.gguf(), directory, weights: 'auto' });
      models.push({ name: 'default', directory, tokens: isSoftware ? [64] : [64, 512, 2048] });
    }
    const rows: DeviceRow[] = [];
    for (const { name, directory, tokens } of models) {
      for (const promptTokens of tokens) {
        const shape = { promptTokens, prompts: options.quick ? 2 : 5, answerTokens: options.quick ? 8 : 32 };
        const cpu = await measure(directory, { kind: 'cpu' }, options.threads, shape);
        const onGpu = await measure(directory, gpu, options.threads, shape);
        const sameTexts = cpu.texts.filter((text, i) => text === onGpu.texts[i]).length;
        const busBytesAtMost = await busBytesMax(directory, gpu);
        rows.push({ model: name, ...shape, cpu, gpu: onGpu, sameTexts, busBytesAtMost });
        onNotice(`${name}, ${promptTokens} tokens: done`);
      }
    }
    return { adapter, rows };
  } finally {
    await rm(place, { recursive: true, force: true });
  }
}

export function deviceTable({ adapter, rows }: DeviceBench): string {
  const lines = rows.map(({ model, promptTokens, cpu, gpu, sameTexts, prompts, busBytesAtMost }) => {
    const bytes = Object.values(gpu.busBytesPerToken ?? {}).reduce((sum, each) => sum + each, 0);
    const pair = (of: 'ttftMs' | 'decodeTokensPerS') => `${digits(cpu[of])} | ${digits(gpu[of])}`;
    const bus = `${digits(bytes)} of ${busBytesAtMost}`;
    return `| ${model}, ${promptTokens} | ${pair('ttftMs')} | ${pair('decodeTokensPerS')} | ${bus} | ${sameTexts} of ${prompts} |`;
  });
  return [
    adapter,
    '',
    '| model, prompt tokens | TTFT, ms: CPU | GPU | decode, tokens/s: CPU | GPU | bus bytes a token, of logits and a KV row | same texts |',
    '|---|---|---|---|---|---|---|',
    ...lines,
  ].join('\n');
}

async function busBytesMax(directory: string, device: ChosenDevice): Promise<number> {
  const { spec, kvType } = await readManifest(directory);
  const isHalf = device.kind !== 'cpu' && device.hasFloat16 && kvType === 'float16';
  return spec.vocab * 4 + 2 * spec.layers * spec.kvHeads * spec.headDim * (isHalf ? 2 : 4);
}

async function measure(
  modelDirectory: string,
  chosenDevice: ChosenDevice,
  threads: number,
  shape: { readonly promptTokens: number; readonly prompts: number; readonly answerTokens: number },
): Promise<Run> {
  const defaults = parseServeOptions({ diskBytes: '0', deviceBytes: '256MiB' });
  const backend = await createBackend({ ...defaults, threads, modelDirectory, chosenDevice });
  try {
    const times: { readonly ttftMs: number; readonly tokenMs: number }[] = [];
    const texts: string[] = [];
    const decoded = { controlUp: 0, kvUp: 0, kvDown: 0, logitsDown: 0, measuresDown: 0 };
    let steps = 0;
    // The first one compiles what there is to compile, and does not count.
    for (let i = -1; i < shape.prompts; i++) {
      await backend.scheduler.idle();
      let text = '';
      let [last, busAt] = [performance.now(), backend.engine.bus];
      const start = last;
      let [ttftMs, tokens] = [0, 0];
      for await (const event of backend.service.complete(request(i, shape))) {
        if (event.type === 'prompt') {
          ttftMs = performance.now() - start;
          busAt = backend.engine.bus;
        } else if (event.type === 'delta') text += event.text;
        else if (event.type === 'end') {
          tokens = event.usage.completionTokens;
          last = performance.now();
        }
      }
      const bus = backend.engine.bus;
      if (i < 0 || tokens < 2) continue;
      times.push({ ttftMs, tokenMs: (last - start - ttftMs) / (tokens - 1) });
      texts.push(text);
      steps += tokens - 1;
      if (bus === undefined || busAt === undefined) continue;
      for (const way of ['controlUp', 'kvUp', 'kvDown', 'logitsDown', 'measuresDown'] as const) {
        decoded[way] += bus[way] - busAt[way];
      }
    }
    const perToken = Object.entries(decoded).map(([way, bytes]) => [way, bytes / steps] as const);
    return {
      ttftMs: median(times.map(({ ttftMs }) => ttftMs)),
      decodeTokensPerS: 1000 / median(times.map(({ tokenMs }) => tokenMs)),
      texts,
      busBytesPerToken: backend.engine.bus && Object.fromEntries(perToken),
    };
  } finally {
    await backend.close();
  }
}

function request(
  seed: number,
  { promptTokens, answerTokens }: { readonly promptTokens: number; readonly answerTokens: number },
): CompletionRequest {
  // Ids that both models have.
  const tokens = Array.from(
    { length: promptTokens },
    (_, i) => 32 + ((i * i * 7 + i * 13 + 31 * (seed + 1)) % 200),
  );
  return benchRequest({ prompt: { kind: 'tokens', tokens }, promptField: 'prompt', maxTokens: answerTokens });
}
