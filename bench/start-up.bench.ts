/**
 * How long a server takes to start when its disk tier holds many chunks: until it is ready, and until all of them can be
 * found. Beside a server without any, so that one sees what the chunks cost. With the tiny model, whose chunks are small.
 */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ChunkIdentity, chunkKey, DIRECTORY_BYTES, DiskStore, kvLayout } from '#storage';
import { cacheFingerprint } from '../src/cache/create-tiers.js';
import { readManifest } from '../src/model/manifest.js';
import { ServerProcess } from './server-process.js';
import { type Spread, spread } from './statistics.js';
import { digits } from './table.js';
import { importTiny, TINY } from './tiny.js';

const CHUNK_TOKENS = 16;
/** Of one prompt. */
const PATH_CHUNKS = 64;
/** More than a file of 4 KiB counts for. */
const BYTES_PER_CHUNK = 16_384;
const AT_ONCE = 32;
const POLL_MS = 5;
const READY_MS_AT_MOST = 2000;

export interface StartUp {
  readonly chunks: number;
  /** Milliseconds from the start of the process until it is ready, without and with chunks. */
  readonly emptyMs: Spread;
  readonly readyMs: Spread;
  /** Until the last chunk can be found. */
  readonly foundMs: Spread;
}

/** Makes such a disk tier below `directory` and starts servers in alternating rounds. */
export async function startUpBench(options: {
  readonly chunks: number;
  readonly rounds: number;
  readonly directory: string;
}): Promise<StartUp> {
  const { chunks, rounds, directory } = options;
  await mkdir(directory, { recursive: true });
  const place = await mkdtemp(join(directory, 'bench-'));
  try {
    const model = await importTiny(join(place, 'models'));
    const capacityBytes = chunks * BYTES_PER_CHUNK + DIRECTORY_BYTES;
    const prompt = await fill(join(place, 'full'), { model, chunks, capacityBytes });
    const flags = {
      'data-dir': place,
      threads: 1,
      'chunk-tokens': CHUNK_TOKENS,
      'disk-bytes': capacityBytes,
      'disk-free-bytes': 0,
      'break-even': 'off',
    };
    const emptyMs: number[] = [];
    const readyMs: number[] = [];
    const foundMs: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const empty = new ServerProcess(TINY, { ...flags, 'disk-dir': join(place, 'empty') });
      emptyMs.push(await empty.ready());
      await empty.kill();
      const full = new ServerProcess(TINY, { ...flags, 'disk-dir': join(place, 'full') });
      readyMs.push(await full.ready());
      while ((await full.stats()).by_tier.disk.chunks !== chunks) await sleep(POLL_MS);
      foundMs.push(full.ageMs);
      const reply = await full.ask({ prompt: [...prompt, 1], maxTokens: 1 });
      assert.equal(reply.cached.disk, prompt.length, 'what is catalogued is found');
      await full.kill();
    }
    return { chunks, emptyMs: spread(emptyMs), readyMs: spread(readyMs), foundMs: spread(foundMs) };
  } finally {
    await rm(place, { recursive: true, force: true });
  }
}

/** One line. */
export function startUpLine({ chunks, emptyMs, readyMs, foundMs }: StartUp): string {
  const short = readyMs.median > READY_MS_AT_MOST ? ', above the target' : '';
  const count = chunks.toLocaleString('en-US');
  return (
    `Start with ${count} chunks: ready after ${digits(readyMs.median)} ms (target ≤ ${READY_MS_AT_MOST} ms${short}), ` +
    `all of them found after ${digits(foundMs.median)} ms; with none: ready after ${digits(emptyMs.median)} ms.`
  );
}

/** Writes the chunks. @returns The tokens of the first path. */
async function fill(
  directory: string,
  options: { readonly model: string; readonly chunks: number; readonly capacityBytes: number },
): Promise<readonly number[]> {
  const { spec, kvType: dtype, fingerprint: model } = await readManifest(options.model);
  const fingerprint = cacheFingerprint(model);
  const { layers, kvHeads, headDim } = spec;
  const layout = kvLayout({ layers, kvHeads, headDim, chunkTokens: CHUNK_TOKENS, dtype });
  const store = DiskStore.open({
    directory,
    layout,
    fingerprint,
    codec: 'float16',
    capacityBytes: options.capacityBytes,
    freeBytesMin: 0,
    clock: { now: () => Date.now() },
    stopwatch: () => performance.now(),
  });
  await store.opened;
  const bytes = new Uint8Array(new SharedArrayBuffer(layout.chunkBytes));
  let next = 0;
  const writePaths = async (): Promise<void> => {
    while (next < options.chunks) {
      const first = next;
      next = Math.min(options.chunks, next + PATH_CHUNKS);
      for (const chunk of path(fingerprint, first, next))
        assert.equal(await store.write(chunk, bytes), 'stored');
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, writePaths));
  await store.close();
  return path(fingerprint, 0, Math.min(options.chunks, PATH_CHUNKS)).flatMap(({ tokens }) => [...tokens]);
}

/** Chunks `[first, end)`, one after the other from position 0. Their tokens are bytes that name the path. */
function path(fingerprint: string, first: number, end: number): ChunkIdentity[] {
  const chunks: ChunkIdentity[] = [];
  for (let index = first; index < end; index++) {
    const parent = chunks.at(-1)?.key;
    const tokens = Int32Array.from({ length: CHUNK_TOKENS }, (_, i) => (i < 4 ? index >> (8 * i) : i) & 0xff);
    const key = chunkKey({ fingerprint, salt: '', parent, tokens });
    chunks.push({ key, parent, namespace: '', tokens });
  }
  return chunks;
}
