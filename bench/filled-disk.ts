/** Fills a directory of the disk tier with chunks of a model, whose bytes are zeros: quicker than by prompts. */
import assert from 'node:assert/strict';
import { performance } from 'node:perf_hooks';
import { type ChunkIdentity, chunkKey, DiskStore, kvLayout } from '#storage';
import { cacheFingerprint } from '../src/cache/create-tiers.js';
import { readManifest } from '../src/model/manifest.js';

/** Of one prompt. */
const PATH_CHUNKS = 64;
const AT_ONCE = 32;

/**
 * Writes `chunks` chunks in the namespace without a key; what exceeds `capacityBytes` evicts others.
 * @returns The tokens of the first prompt that now has its chunks there.
 */
export async function fillDisk(
  directory: string,
  options: {
    /** Directory of the imported model. */
    readonly model: string;
    readonly chunkTokens: number;
    readonly chunks: number;
    /** Of the directory. */
    readonly capacityBytes: number;
  },
): Promise<readonly number[]> {
  const { chunkTokens, capacityBytes } = options;
  const { spec, kvType: dtype, fingerprint: model } = await readManifest(options.model);
  const { layers, kvHeads, headDim } = spec;
  const layout = kvLayout({ layers, kvHeads, headDim, chunkTokens, dtype });
  const fingerprint = cacheFingerprint(model);
  const store = DiskStore.open({
    directory,
    layout,
    fingerprint,
    codec: 'float16',
    capacityBytes,
    freeBytesMin: 0,
    clock: { now: () => Date.now() },
    stopwatch: () => performance.now(),
  });
  await store.opened;
  const path = pathOf(fingerprint, chunkTokens);
  const bytes = new Uint8Array(new SharedArrayBuffer(layout.chunkBytes));
  let next = 0;
  const writePaths = async (): Promise<void> => {
    while (next < options.chunks) {
      const first = next;
      next = Math.min(options.chunks, next + PATH_CHUNKS);
      for (const chunk of path(first, next)) assert.equal(await store.write(chunk, bytes), 'stored');
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, writePaths));
  await store.close();
  return path(0, Math.min(options.chunks, PATH_CHUNKS)).flatMap(({ tokens }) => [...tokens]);
}

/** Chunks `[first, end)`, one after the other from position 0. Their tokens are bytes that name them. */
function pathOf(fingerprint: string, chunkTokens: number) {
  return (first: number, end: number): ChunkIdentity[] => {
    const chunks: ChunkIdentity[] = [];
    for (let index = first; index < end; index++) {
      const parent = chunks.at(-1)?.key;
      const tokens = Int32Array.from(
        { length: chunkTokens },
        (_, i) => (i < 4 ? index >> (8 * i) : i) & 0xff,
      );
      const key = chunkKey({ fingerprint, salt: '', parent, tokens });
      chunks.push({ key, parent, namespace: '', tokens });
    }
    return chunks;
  };
}
