/**
 * What counting costs: the throughput of a server that counts, keeps, tells and measures all it can, against one whose
 * recorders do nothing, over HTTP and with the tiny model, whose requests cost so little that everything beside them
 * weighs most. Both run in this process, in turn.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { createApp } from '../src/api/app.js';
import { startServer } from '../src/api/server.js';
import { parseServeOptions } from '../src/config/options.js';
import { type Backend, createBackend } from '../src/server.js';
import { pairedRatio, type Spread } from './statistics.js';
import { importTiny } from './tiny.js';

const CLIENTS = 8;
const REQUESTS = 160;
const ANSWER_TOKENS = 16;
const SYSTEM = 'The keeper of the lamp answers in one word, and never twice the same. '.repeat(8);
/** A scrape for so many requests. */
const SCRAPE_EVERY = 20;

export interface RecordingBench {
  readonly rounds: number;
  /** Time of a round with everything counted by that of one without, of rounds next to each other. */
  readonly ratio: Spread;
  /** The same of the CPU time of the process, engine and clients included: steadier on a machine that others use. */
  readonly cpuRatio: Spread;
  readonly requestsPerS: number;
}

/** Nobody counts, keeps or tells anything. */
function silence({ statistics, controls, cache }: Backend): void {
  statistics.record = () => {};
  controls.events.emit = () => {};
  cache.parting = () => ({ depth: 0, next: new Int32Array() });
}

async function startSide(modelDirectory: string, directory: string, isSilent: boolean) {
  const backend = await createBackend({
    ...parseServeOptions({ dataDir: directory, threads: '1', deviceBytes: '16MiB', hostBytes: '16MiB' }),
    modelDirectory,
    historyFile: join(directory, 'statistics.sqlite'),
  });
  if (isSilent) silence(backend);
  const { service, statistics, history, controls } = backend;
  const app = createApp({ service, statistics, history, controls });
  const server = await startServer({ app, host: '127.0.0.1', port: 0, shutdownTimeoutMs: 1000 });
  const close = async () => {
    await server.close();
    await backend.close();
  };
  return { url: server.url, model: service.model.id, close };
}

/** Milliseconds, as the clock and as the CPU has it. */
async function roundOf({ url, model }: { readonly url: string; readonly model: string }, seed: number) {
  const startedAt = performance.now();
  const cpuBefore = process.cpuUsage();
  let next = 0;
  const client = async () => {
    for (let i = next++; i < REQUESTS; i = next++) {
      const response = await fetch(`${url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer sk-${i % 4}` },
        body: JSON.stringify({
          model,
          prompt: `${SYSTEM}${seed} ${i}`,
          max_tokens: ANSWER_TOKENS,
          stream: true,
        }),
      });
      await response.arrayBuffer();
      if (response.status !== 200) throw new Error(`answered with ${response.status}`);
      if (i % SCRAPE_EVERY === 0) await (await fetch(`${url}/metrics`)).arrayBuffer();
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  const { user, system } = process.cpuUsage(cpuBefore);
  return { ms: performance.now() - startedAt, cpuMs: (user + system) / 1000 };
}

export async function recordingBench(rounds: number): Promise<RecordingBench> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-recording-'));
  try {
    const modelDirectory = await importTiny(join(directory, 'models'));
    const sides = [
      await startSide(modelDirectory, await mkdtemp(join(directory, 'on-')), false),
      await startSide(modelDirectory, await mkdtemp(join(directory, 'off-')), true),
    ] as const;
    try {
      type Times = Awaited<ReturnType<typeof roundOf>>[];
      const times: [Times, Times] = [[], []];
      // The first round warms up, and who goes first alternates.
      for (let round = 0; round <= rounds; round++) {
        for (const side of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
          const taken = await roundOf(sides[side], round);
          if (round > 0) times[side].push(taken);
        }
      }
      const ratioOf = (what: 'ms' | 'cpuMs') => {
        const [on, off] = times.map((side) => side.map((round) => round[what]));
        return pairedRatio(on!, off!);
      };
      const allMs = times[0].reduce((sum, { ms }) => sum + ms, 0);
      const requestsPerS = (1000 * REQUESTS * times[0].length) / allMs;
      return { rounds, ratio: ratioOf('ms'), cpuRatio: ratioOf('cpuMs'), requestsPerS };
    } finally {
      for (const side of sides) await side.close();
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Of a ratio, what is beyond 1. */
const percent = (ratio: number): string => `${((ratio - 1) * 100).toFixed(1)} %`;

/** In a sentence. */
export function recordingLine({ rounds, ratio, cpuRatio, requestsPerS }: RecordingBench): string {
  return `Counting takes ${percent(ratio.median)} of the time (median of ${rounds} pairs, ${percent(ratio.min)} to ${percent(ratio.max)}) and ${percent(cpuRatio.median)} of the CPU time (${percent(cpuRatio.min)} to ${percent(cpuRatio.max)}), at ${requestsPerS.toFixed(0)} requests/s.`;
}
