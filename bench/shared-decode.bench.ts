/**
 * What it takes to decode sequences with a common prefix: one by one, together, together and sharing, and by llama.cpp
 * with its prefix shared in a unified KV cache: `npm run bench -- shared-decode`.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { kvLayout } from '#storage';
import type { WeightsOption } from '../src/config/options.js';
import { Engine } from '../src/engine/engine.js';
import { importModel } from '../src/model/importer.js';
import { readManifest } from '../src/model/manifest.js';
import { kvBytes, OUR_WAYS, OurSequences, type OurWay } from './shared-decode/ours.js';
import { SharedPeer } from './shared-decode/peer.js';
import type { Shape } from './shared-decode/shape.js';
import { median } from './statistics.js';

const SHAPES: readonly Shape[] = [
  { sequences: 1, shared: 2048, own: 64 },
  { sequences: 8, shared: 2048, own: 64 },
  { sequences: 16, shared: 2048, own: 128 },
  { sequences: 16, shared: 4096, own: 64 },
];
const PEER = 'llama.cpp';
/** The first steps of either side are slow. */
const WARM_UP_STEPS = 2;

interface SharedDecodeRow extends Shape {
  /** Median milliseconds of a step of all sequences. */
  readonly stepMs: Readonly<Record<string, number>>;
  readonly kvBytes: { readonly shared: number; readonly copied: number };
}

export async function sharedDecodeBench(options: {
  readonly gguf: string;
  readonly threads: number;
  readonly weights: WeightsOption;
  readonly rounds: number;
  readonly onNotice: (message: string) => void;
}): Promise<readonly SharedDecodeRow[]> {
  const { gguf, threads, weights, rounds, onNotice } = options;
  const peer = SharedPeer.start(gguf, threads);
  if (peer === undefined) onNotice('llama-cpp-python is not installed: no peer');
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-shared-'));
  try {
    await importModel({ path: gguf, directory, weights });
    const manifest = await readManifest(directory);
    const { layers, kvHeads, headDim } = manifest.spec;
    const layout = kvLayout({ layers, kvHeads, headDim, chunkTokens: 64, dtype: manifest.kvType });
    const engine = await Engine.create({ directory, threads, layout, device: { kind: 'cpu' } });
    try {
      const rows: SharedDecodeRow[] = [];
      for (const shape of SHAPES) {
        const stepMs = await measure(engine, peer, shape, rounds);
        rows.push({ ...shape, stepMs, kvBytes: kvBytes(layout, shape) });
        onNotice(`${shape.sequences} sequences, ${shape.shared} common tokens: done`);
      }
      return rows;
    } finally {
      await engine.close();
    }
  } finally {
    peer?.close();
    await rm(directory, { recursive: true, force: true });
  }
}

/** Our ways take turns step by step; the peer, which holds its own memory, comes before and after them. */
async function measure(
  engine: Engine,
  peer: SharedPeer | undefined,
  shape: Shape,
  rounds: number,
): Promise<Record<string, number>> {
  const times = new Map<string, number[]>();
  const add = (way: string, ms: readonly number[]) => times.set(way, [...(times.get(way) ?? []), ...ms]);
  const steps = WARM_UP_STEPS + Math.ceil(rounds / 2);
  const peerRound = async () => {
    if (peer !== undefined) add(PEER, (await peer.run(shape, steps)).slice(WARM_UP_STEPS));
  };
  await peerRound();
  const ways: readonly OurWay[] = shape.sequences === 1 ? ['one by one'] : OUR_WAYS;
  const ours = await OurSequences.create(engine, shape, WARM_UP_STEPS + rounds);
  for (let round = 0; round < WARM_UP_STEPS + rounds; round++) {
    for (const way of ways) {
      const ms = await ours.step(way);
      if (round >= WARM_UP_STEPS) add(way, [ms]);
    }
    ours.next();
  }
  await ours.free();
  await peerRound();
  return Object.fromEntries([...times].map(([way, ms]) => [way, median(ms)]));
}

/** As Markdown: tokens a second of all sequences. */
export function sharedDecodeTable(rows: readonly SharedDecodeRow[]): string {
  const ways = [...OUR_WAYS, PEER];
  const head = ['sequences', 'common + own tokens', ...ways, 'KV shared', 'KV in copies'];
  const lines = rows.map(({ sequences, shared, own, stepMs, kvBytes: bytes }) => {
    const speeds = ways.map((way) => {
      const ms = stepMs[way];
      return ms === undefined ? '–' : `${((1000 * sequences) / ms).toFixed(1)} tok/s`;
    });
    const sizes = [bytes.shared, bytes.copied].map((size) => `${(size / 2 ** 20).toFixed(0)} MiB`);
    return [String(sequences), `${shared} + ${own}`, ...speeds, ...sizes];
  });
  return [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
