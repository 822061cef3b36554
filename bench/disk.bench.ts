/**
 * How fast the disk tier writes and reads chunks of the default model, beside a plain file of the same length on the
 * same volume in the same run, and how long it keeps the thread that calls it.
 *
 * Alternating rounds; reads of what is not in the page cache, where it can be dropped, and of what is. The tier has
 * all files and names on the volume when a write is done, a plain file its bytes.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { type ChunkIdentity, chunkKey, DIRECTORY_BYTES, DiskStore, kvLayout } from '#storage';
import { canDropPageCache, dropPageCache } from './page-cache.js';
import { readSequentially, writeSequentially } from './sequential.js';
import { pairedRatio, type Spread, spread } from './statistics.js';
import { digits } from './table.js';

/** The default model's KV: 1,474,560 bytes a chunk. */
const LAYOUT = kvLayout({ layers: 30, kvHeads: 3, headDim: 64, chunkTokens: 64, dtype: 'float16' });
const FINGERPRINT = 'bench';
/** Chunks of one prompt. */
const PATH_CHUNKS = 32;
const AT_ONCE = 16;
const SPEED_AT_LEAST = 0.6;
const DELAY_MS_AT_MOST = 20;

export interface DiskSpeed {
  readonly name: string;
  /** Megabytes (10^6) a second. */
  readonly store: Spread;
  readonly sequential: Spread;
  /** Speed of the store as a share of the plain file's, round by round. */
  readonly share: Spread;
  /** Of the calling thread's event loop while the store worked: the worst round's 99th percentile, and the longest. */
  readonly delayP99Ms: number;
  readonly delayMaxMs: number;
}

interface Timed {
  readonly ms: number;
  readonly delayP99Ms: number;
  readonly delayMaxMs: number;
}

/**
 * Writes and reads about `bytes` in each of `rounds` rounds, below `directory`, where it needs twice that much.
 * @param note Is told what could not be measured.
 */
export async function diskBench(options: {
  readonly bytes: number;
  readonly rounds: number;
  readonly directory: string;
  readonly note: (message: string) => void;
}): Promise<DiskSpeed[]> {
  const { rounds, directory, note } = options;
  await mkdir(directory, { recursive: true });
  const place = await mkdtemp(join(directory, 'bench-'));
  const chunks = chunksOf(Math.ceil(options.bytes / LAYOUT.chunkBytes));
  const bytes = chunks.length * LAYOUT.chunkBytes;
  if (!canDropPageCache())
    note('the page cache can be dropped by root only: reads of dropped files are left out');
  const slots = randomSlots();
  const runs = new Map<string, { readonly store: Timed; readonly sequentialMs: number }[]>();
  const add = (name: string, run: { store: Timed; sequentialMs: number }): void => {
    runs.set(name, [...(runs.get(name) ?? []), run]);
  };
  try {
    for (let round = 0; round < rounds; round++) {
      const file = join(place, 'plain');
      const store = await openStore(join(place, 'store'), bytes);
      const sequentialMs = await writeSequentially(file, bytes);
      add('write', { sequentialMs, store: await timed(() => writeAll(store, chunks, slots)) });
      for (const name of ['read, page cache dropped', 'read, page cache warm']) {
        if (name.endsWith('dropped') && !canDropPageCache()) continue;
        if (name.endsWith('dropped')) dropPageCache();
        add(name, {
          sequentialMs: await readSequentially(file),
          store: await timed(() => readAll(store, chunks, slots)),
        });
      }
      await store.close();
      await rm(place, { recursive: true });
      await mkdir(place);
    }
  } finally {
    await rm(place, { recursive: true, force: true });
  }
  return [...runs].map(([name, each]) => {
    const megabytes = bytes / 1e6;
    const store = each.map((run) => (megabytes * 1000) / run.store.ms);
    const sequential = each.map((run) => (megabytes * 1000) / run.sequentialMs);
    return {
      name,
      store: spread(store),
      sequential: spread(sequential),
      share: pairedRatio(store, sequential),
      delayP99Ms: Math.max(...each.map((run) => run.store.delayP99Ms)),
      delayMaxMs: Math.max(...each.map((run) => run.store.delayMaxMs)),
    };
  });
}

/** Markdown. */
export function diskTable(speeds: readonly DiskSpeed[]): string {
  const lines = speeds.map(({ name, store, sequential, share, delayP99Ms, delayMaxMs }) => {
    const short = share.median < SPEED_AT_LEAST ? ', short of the target' : '';
    const slow = delayP99Ms > DELAY_MS_AT_MOST ? ', above the target' : '';
    return [
      name,
      `${digits(store.median)} MB/s`,
      `${digits(sequential.median)} MB/s`,
      `${digits(share.median)}× (${digits(share.min)}–${digits(share.max)})${short}`,
      `${digits(delayP99Ms)} ms${slow} (max ${digits(delayMaxMs)} ms)`,
    ];
  });
  const header = [
    '',
    'disk tier',
    'plain file',
    `share (min–max of rounds), target ≥ ${SPEED_AT_LEAST}×`,
    `event-loop delay p99, target ≤ ${DELAY_MS_AT_MOST} ms`,
  ];
  return [header, header.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** Paths of `PATH_CHUNKS` chunks, each after its parent. */
function chunksOf(count: number): ChunkIdentity[] {
  const chunks: ChunkIdentity[] = [];
  for (let index = 0; index < count; index++) {
    const parent = index % PATH_CHUNKS === 0 ? undefined : chunks[index - 1]!.key;
    const tokens = Int32Array.from({ length: LAYOUT.chunkTokens }, (_, token) => index + token);
    const key = chunkKey({ fingerprint: FINGERPRINT, salt: '', parent, tokens });
    chunks.push({ key, parent, namespace: '', tokens });
  }
  return chunks;
}

async function openStore(directory: string, bytes: number): Promise<DiskStore> {
  const store = DiskStore.open({
    directory,
    layout: LAYOUT,
    fingerprint: FINGERPRINT,
    codec: 'float16',
    capacityBytes: 2 * bytes + DIRECTORY_BYTES,
    freeBytesMin: 0,
    clock: { now: () => Date.now() },
    stopwatch: () => performance.now(),
  });
  await store.opened;
  return store;
}

async function writeAll(store: DiskStore, chunks: readonly ChunkIdentity[], slots: Slots): Promise<void> {
  await atOnce(chunks, async (chunk, lane) => {
    assert.equal(await store.write(chunk, slots[lane]!), 'stored');
  });
}

async function readAll(store: DiskStore, chunks: readonly ChunkIdentity[], slots: Slots): Promise<void> {
  await atOnce(chunks, async ({ key }, lane) => {
    assert.equal(await store.read(key, slots[lane]!), 'hit');
  });
}

/** One for each chunk under way, in shared memory as the host tier's: the disk's thread uses them without a copy. */
type Slots = readonly Uint8Array[];

function randomSlots(): Slots {
  return Array.from({ length: AT_ONCE }, () => {
    const slot = new Uint8Array(new SharedArrayBuffer(LAYOUT.chunkBytes));
    slot.set(randomBytes(slot.length));
    return slot;
  });
}

/** Works on all items in order, `AT_ONCE` at a time. */
async function atOnce<T>(items: readonly T[], work: (item: T, lane: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async (_: unknown, index: number): Promise<void> => {
    while (next < items.length) await work(items[next++]!, index);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
}

async function timed(work: () => Promise<void>): Promise<Timed> {
  // The time between two turns of a timer of 1 ms, which is in it.
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const start = performance.now();
  await work();
  const ms = performance.now() - start;
  delay.disable();
  return { ms, delayP99Ms: delay.percentile(99) / 1e6, delayMaxMs: delay.max / 1e6 };
}
