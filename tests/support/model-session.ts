/**
 * A model that tests run directly, without the engine's worker: imports, device runs, prompts cut into tiles.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type KvLayout, kvLayout } from '#storage';
import type { WeightsOption } from '../../src/config/options.js';
import { DeviceRun } from '../../src/engine/device-run.js';
import { GraphRunner } from '../../src/engine/graph-runner.js';
import { importModel } from '../../src/model/importer.js';
import { readManifest } from '../../src/model/manifest.js';

export interface ModelSession {
  readonly runner: GraphRunner;
  readonly layout: KvLayout;
  readonly vocab: number;
  /** A run of `tokens` rows; fresh memory is zero. */
  createRun(tokens: number): DeviceRun;
}

export async function openSession(directory: string, { threads = 2 } = {}): Promise<ModelSession> {
  const manifest = await readManifest(directory);
  const { layers, kvHeads, headDim, vocab } = manifest.spec;
  const layout = kvLayout({ layers, kvHeads, headDim, chunkTokens: 64, dtype: manifest.kvType });
  const runner = await GraphRunner.create({ directory, manifest, layout, threads });
  const createRun = (tokens: number) =>
    new DeviceRun(layout, tokens, new ArrayBuffer(tokens * layout.tokenBytes));
  return { runner, layout, vocab, createRun };
}

/** What removes things when a test or suite is over. */
export interface Cleanup {
  after(remove: () => Promise<void>): void;
}

/** Imports into a directory that goes with the test. @returns The directory. */
export async function importForTest(
  cleanup: Cleanup,
  options: {
    readonly path: string;
    readonly weights: WeightsOption;
    readonly kvType: 'float16' | 'float32';
  },
): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-model-'));
  cleanup.after(() => rm(directory, { recursive: true, force: true }));
  await importModel({ ...options, directory });
  return directory;
}

/**
 * Prefills `tokens[start … last end)` in tiles that end at `ends`, ascending.
 *
 * @returns Logits of the last row, `[vocab]`.
 */
export async function prefillTiles(
  { runner }: ModelSession,
  run: DeviceRun,
  tokens: Int32Array,
  { start = 0, ends }: { readonly start?: number; readonly ends: readonly number[] },
): Promise<Float32Array> {
  let logits: Float32Array = new Float32Array();
  let from = start;
  for (const end of ends) {
    logits = await runner.prefill(run, from, tokens.subarray(from, end));
    from = end;
  }
  return logits;
}

/** Ends of tiles of `tile` rows from `start` to `total`; the last one may be shorter. */
export function tileEnds(total: number, tile: number, start = 0): number[] {
  const count = Math.ceil((total - start) / tile);
  return Array.from({ length: count }, (_, i) => Math.min(total, start + (i + 1) * tile));
}
