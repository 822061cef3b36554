/** The disk on a thread of its own: nothing waits for it, its death is borne, and its directory is its own. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { type ChunkIdentity, DIRECTORY_BYTES, DiskError, DiskStore, type DiskStoreOptions } from '#storage';
import { chargedBytes } from '../../../storage/disk/disk-budget.js';
import { DiskThread } from '../../../storage/disk/disk-thread.js';
import { ManualClock } from '../../support/manual-clock.js';
import { bytesOf, chainOf, FINGERPRINT, LAYOUT } from './chunks.js';

const root = mkdtempSync(join(tmpdir(), 'radixkv-disk-thread-'));
after(() => rmSync(root, { recursive: true }));

const chain = chainOf(12);

function optionsFor(name: string): DiskStoreOptions {
  return {
    directory: join(root, name),
    fingerprint: FINGERPRINT,
    layout: LAYOUT,
    codec: 'float16',
    capacityBytes: DIRECTORY_BYTES + 100 * chargedBytes(1000),
    freeBytesMin: 0,
    clock: new ManualClock(),
    stopwatch: () => 0,
  };
}

async function opened(options: DiskStoreOptions): Promise<DiskStore> {
  const disk = DiskStore.open(options);
  await disk.opened;
  return disk;
}

const shared = (bytes: Uint8Array): Uint8Array => {
  const view = new Uint8Array(
    new SharedArrayBuffer(3 * bytes.byteLength),
    bytes.byteLength,
    bytes.byteLength,
  );
  view.set(bytes);
  return view;
};

test('chunks go out of shared memory and into it, and nothing beside them is touched', async () => {
  const disk = await opened({ ...optionsFor('shared'), encryptionKey: Buffer.alloc(32, 5) });
  for (const chunk of chain) assert.equal(await disk.write(chunk, shared(bytesOf(chunk))), 'stored');
  const into = shared(new Uint8Array(LAYOUT.chunkBytes));
  for (const chunk of chain) {
    assert.equal((await disk.load(chunk.key, into)).outcome, 'hit');
    assert.deepEqual(Buffer.from(into), Buffer.from(bytesOf(chunk)));
  }
  const whole = new Uint8Array(into.buffer);
  assert(whole.subarray(0, into.byteLength).every((byte) => byte === 0));
  assert(whole.subarray(2 * into.byteLength).every((byte) => byte === 0));
  await disk.close();
});

test('many reads and writes run at once, and each gets its own bytes', async () => {
  const disk = await opened(optionsFor('many'));
  const written = await Promise.all(chain.map((chunk) => disk.write(chunk, bytesOf(chunk))));
  assert(written.every((outcome) => outcome === 'stored'));
  const wanted = Array.from({ length: 60 }, (_, i) => chain[i % chain.length]!);
  await Promise.all(
    wanted.map(async (chunk) => {
      const into = new Uint8Array(LAYOUT.chunkBytes);
      assert.equal(await disk.read(chunk.key, into), 'hit');
      assert.deepEqual(into, bytesOf(chunk));
    }),
  );
  await disk.close();
});

test('a thread that dies takes nothing with it: calls are answered, and another takes over', async () => {
  const workers: Worker[] = [];
  const told: ChunkIdentity[] = [];
  const evicted: string[] = [];
  const lost: Error[] = [];
  const options = optionsFor('killed');
  const disk = await opened({
    ...options,
    onLoaded: (chunks) => told.push(...chunks),
    onEvict: (key) => evicted.push(key),
    onLost: (error) => lost.push(error),
    openBackend: ({ isCatalogueLost, ...listener }) =>
      DiskThread.open({ ...options, encryptionKey: undefined, isCatalogueLost }, listener, (workerData) => {
        const worker = new Worker(new URL('../../../storage/disk/disk.worker.js', import.meta.url), {
          workerData: structuredClone({ ...workerData, clock: undefined, stopwatch: undefined }),
        });
        workers.push(worker);
        return worker;
      }),
  });
  const kept = chain.slice(0, 6);
  for (const chunk of kept) assert.equal(await disk.write(chunk, bytesOf(chunk)), 'stored');

  const reads = kept.map((chunk) => disk.read(chunk.key, new Uint8Array(LAYOUT.chunkBytes)));
  const writes = chain.slice(6).map((chunk) => disk.write(chunk, bytesOf(chunk)));
  await workers[0]!.terminate();
  assert((await Promise.all(reads)).every((outcome) => outcome === 'hit' || outcome === 'unavailable'));
  const outcomes = await Promise.all(writes);
  assert(outcomes.every((outcome) => outcome === 'stored' || outcome === 'failed'));
  while (disk.state === 'opening') await nextTurn();

  assert.equal(workers.length, 2);
  assert.equal(disk.reading().counters.restarts, 1);
  assert(lost[0] instanceof DiskError && lost[0].code === 'disk_thread_died');
  assert.deepEqual(evicted, []);
  disk.audit();
  const expected = chain.filter((_, i) => i < 6 || outcomes[i - 6] === 'stored');
  for (const chunk of [...expected, ...told]) {
    const into = new Uint8Array(LAYOUT.chunkBytes);
    assert.equal(await disk.read(chunk.key, into), 'hit');
    assert.deepEqual(into, bytesOf(chunk));
  }
  await disk.close();
});

test('a directory that another store has open is refused, and is free when that one closes', async () => {
  const options = optionsFor('in-use');
  const disk = await opened(options);
  const second = DiskStore.open(options);
  await assert.rejects(second.opened, (error) => error instanceof DiskError && error.code === 'disk_in_use');
  await second.close();
  await disk.close();
  await (await opened(options)).close();
});

test('a directory that cannot be made is refused', async () => {
  writeFileSync(join(root, 'a file'), '');
  const disk = DiskStore.open(optionsFor('a file/disk'));
  await assert.rejects(disk.opened, (error) => error instanceof DiskError && error.code === 'disk_unusable');
  assert.equal(disk.state, 'closed');
});

test('a store closed at once leaves the directory free', async () => {
  const options = optionsFor('at-once');
  await DiskStore.open(options).close();
  await (await opened(options)).close();
});
