/**
 * What every ChunkStore promises, for the states opening, open, full, closing and closed. A tier's test calls
 * `chunkStoreContract` with a way to make one that holds `chunks` chunks of `CHUNK_BYTES`, half of which may be
 * pinned, evicts the least recently used first, and goes by the given clock; and with a way to damage a chunk at rest.
 */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import {
  type ChunkIdentity,
  type ChunkKey,
  type ChunkStore,
  type Clock,
  chunkKey,
  type EvictReason,
  type OnEvict,
} from '#storage';
import { ManualClock } from '../support/manual-clock.js';

export const CHUNK_BYTES = 64;

export interface StoreUnderTest {
  readonly store: ChunkStore;
  /** Flips one bit of a stored chunk behind the store's back. */
  readonly damage: (key: ChunkKey) => void | Promise<void>;
  /** What a chunk takes of the capacity; default `CHUNK_BYTES`. */
  readonly storedBytes?: number;
}

export interface StoreRequest {
  readonly chunks: number;
  readonly onEvict: OnEvict;
  readonly clock: Clock;
}

export interface ContractOptions {
  /** An open, empty store. */
  readonly create: (request: StoreRequest) => Promise<StoreUnderTest>;
  /** A store that is still opening, where there is such a thing; closed at the end of the test. */
  readonly createOpening?: (request: StoreRequest) => ChunkStore;
}

/** A chunk named by a number, at position 0 or after another one. */
export function chunk(name: number, parent?: ChunkIdentity): ChunkIdentity {
  const tokens = Int32Array.of(name);
  const key = chunkKey({ fingerprint: 'test', salt: 'tenant', parent: parent?.key, tokens });
  return { key, parent: parent?.key, namespace: 'tenant', tokens };
}
/** The chunk of this name at position 0. */
export const key = (name: number): ChunkKey => chunk(name).key;
export const bytesOf = (name: number): Uint8Array => new Uint8Array(CHUNK_BYTES).fill(name + 1);

/** What is read of a chunk, or why nothing is. */
export async function readOf(store: ChunkStore, of: ChunkKey): Promise<Uint8Array | string> {
  const into = new Uint8Array(CHUNK_BYTES);
  const outcome = await store.read(of, into);
  return outcome === 'hit' ? into : outcome;
}

/** Chunks 0 to 2 are one path. */
const root = chunk(0);
const middle = chunk(1, root);
const leaf = chunk(2, middle);
const path = [leaf.key, middle.key, root.key];

const roots = (...names: number[]) => names.map((n) => chunk(n));

async function assertUnavailable(store: ChunkStore): Promise<void> {
  assert.equal(store.has(key(0)), false);
  assert.equal(await readOf(store, key(0)), 'unavailable');
  assert.equal(await store.write(chunk(2), bytesOf(2)), 'unavailable');
  assert.equal(store.lease(key(0)), false);
  assert.equal(store.remove(key(0)), false);
  assert.equal(store.pin([key(0)], { ttlMs: 1 }), 'missing');
  store.touch([key(0)]);
  store.unpin([key(0)]);
}

export function chunkStoreContract(name: string, { create, createOpening }: ContractOptions): void {
  async function storeWith(chunks: number, stored: readonly ChunkIdentity[]) {
    const evicted: [number, EvictReason][] = [];
    const clock = new ManualClock();
    const names = new Map([0, 1, 2, 3, 4].map((n) => [key(n), n]));
    for (const n of [root, middle, leaf]) names.set(n.key, n.tokens[0]!);
    const onEvict: OnEvict = (gone, reason) => evicted.push([names.get(gone) ?? -1, reason]);
    const { store, damage, storedBytes = CHUNK_BYTES } = await create({ chunks, onEvict, clock });
    for (const each of stored) assert.equal(await store.write(each, bytesOf(each.tokens[0]!)), 'stored');
    const write = (n: number) => store.write(chunk(n), bytesOf(n));
    const read = (n: number) => readOf(store, key(n));
    return { store, damage, storedBytes, evicted, clock, write, read };
  }
  suite(`${name}, open`, () => {
    test('a written chunk is read back as it was', async () => {
      const { store, read } = await storeWith(3, roots(0, 1));
      assert.deepEqual(await read(0), bytesOf(0));
      assert.deepEqual(await read(1), bytesOf(1));
      assert(store.has(key(1)));
      await store.close();
    });

    test('a chunk that was never written is missing', async () => {
      const { store, read } = await storeWith(3, roots(0));
      assert.equal(await read(1), 'missing');
      assert.equal(store.has(key(1)), false);
      assert.equal(store.lease(key(1)), false);
      assert.equal(store.remove(key(1)), false);
      assert.equal(store.pin([key(0), key(1)], { ttlMs: 1 }), 'missing');
      store.touch([key(1)]);
      store.unpin([key(1)]);
      await store.close();
    });

    test('a sealed chunk never changes: not by another write, not through the buffers given', async () => {
      const { store, read } = await storeWith(3, []);
      const given = bytesOf(0);
      await store.write(chunk(0), given);
      given.fill(99);
      assert.equal(await store.write(chunk(0), given), 'present');
      const first = await read(0);
      assert(typeof first !== 'string');
      assert.deepEqual(first, bytesOf(0));
      first.fill(99);
      assert.deepEqual(await read(0), bytesOf(0));
      await store.close();
    });

    test('a flipped bit is read as corrupt, and the chunk is gone', async () => {
      const { store, damage, evicted, read, storedBytes } = await storeWith(3, roots(0, 1));
      await damage(key(0));
      assert.equal(await read(0), 'corrupt');
      assert.equal(await read(0), 'missing');
      assert.deepEqual(evicted, [[0, 'corrupt']]);
      assert.equal(store.usedBytes, storedBytes);
      assert.deepEqual(await read(1), bytesOf(1));
      await store.close();
    });

    test('a removed chunk is gone, its bytes are free, and its key can be written anew', async () => {
      const { store, evicted, read, write, storedBytes } = await storeWith(3, roots(0, 1));
      assert(store.remove(key(0)));
      assert.equal(await read(0), 'missing');
      assert.deepEqual(evicted, [[0, 'deleted']]);
      assert.equal(store.usedBytes, storedBytes);
      assert.equal(await write(0), 'stored');
      assert.deepEqual(await read(0), bytesOf(0));
      await store.close();
    });

    test('a removed chunk cannot be read, but its bytes are in use until its last lease ends', async () => {
      const { store, evicted, read, storedBytes } = await storeWith(3, roots(0));
      store.lease(key(0));
      store.lease(key(0));
      assert(store.remove(key(0)));
      assert.equal(await read(0), 'missing');
      assert.equal(store.lease(key(0)), false);
      assert.equal(store.remove(key(0)), false);
      assert.deepEqual(evicted, [[0, 'deleted']]);
      store.release(key(0));
      assert.equal(store.usedBytes, storedBytes);
      store.release(key(0));
      assert.equal(store.usedBytes, 0);
      await store.close();
    });

    test('a chunk before others may be removed, and they are read as ever', async () => {
      const { store } = await storeWith(3, [root, middle, leaf]);
      assert(store.remove(middle.key, 'corrupt'));
      assert.deepEqual(await readOf(store, leaf.key), bytesOf(2));
      assert.equal(await store.write(middle, bytesOf(1)), 'stored');
      assert.deepEqual(await readOf(store, middle.key), bytesOf(1));
      await store.close();
    });

    test('a release without a lease is a programmer error', async () => {
      const { store } = await storeWith(3, roots(0));
      assert.throws(() => store.release(key(0)), { name: 'AssertionError' });
      await store.close();
    });

    test('a buffer of the wrong length is a programmer error', async () => {
      const { store } = await storeWith(3, roots(0));
      const short = new Uint8Array(CHUNK_BYTES - 1);
      await assert.rejects(store.read(key(0), short), { name: 'AssertionError' });
      await assert.rejects(store.write(chunk(1), short), { name: 'AssertionError' });
      await store.close();
    });

    test('a chunk expires when it was not used for its TTL', async () => {
      const { store, evicted, clock, read } = await storeWith(4, roots(1));
      await store.write(chunk(0), bytesOf(0), { ttlMs: 1000 });
      clock.nowMs += 999;
      store.touch([key(0)]);
      clock.nowMs += 999;
      assert.deepEqual(await read(0), bytesOf(0));
      clock.nowMs += 1;
      assert.equal(store.has(key(0)), false);
      assert.equal(await read(0), 'missing');
      assert.deepEqual(evicted, [[0, 'expired']]);
      assert.deepEqual(await read(1), bytesOf(1));
      await store.close();
    });

    test('a chunk is kept as it was said last, from then on, and by default again when nothing is said', async () => {
      const { store, evicted, clock, read } = await storeWith(4, roots(0, 1));
      clock.nowMs += 5000;
      store.retain([key(0), key(1)], { ttlMs: 1000 });
      clock.nowMs += 999;
      assert.deepEqual(await read(0), bytesOf(0));
      store.retain([key(1)], {});
      clock.nowMs += 1;
      assert.equal(await read(0), 'missing');
      assert.deepEqual(evicted, [[0, 'expired']]);
      clock.nowMs += 100_000;
      assert.deepEqual(await read(1), bytesOf(1));
      store.retain([key(3)], { ttlMs: 1 });
      await store.close();
    });

    test('a clock that jumps back gives no chunk more time than its TTL', async () => {
      const { store, clock, read } = await storeWith(4, []);
      await store.write(chunk(0), bytesOf(0), { ttlMs: 1000 });
      clock.nowMs -= 900_000;
      assert.deepEqual(await read(0), bytesOf(0));
      clock.nowMs += 1000;
      assert.equal(await read(0), 'missing');
      await store.close();
    });
  });

  suite(`${name}, full`, () => {
    test('the least recently used chunk makes room, and the bytes stay within the capacity', async () => {
      const { store, evicted, read, write, storedBytes } = await storeWith(3, roots(0, 1, 2));
      assert.equal(store.usedBytes, 3 * storedBytes);
      assert.equal(await write(3), 'stored');
      assert.deepEqual(evicted, [[0, 'capacity']]);
      assert.equal(store.usedBytes, 3 * storedBytes);
      assert(store.usedBytes <= store.capacityBytes);
      assert.equal(await read(0), 'missing');
      assert.deepEqual(await read(3), bytesOf(3));
      await store.close();
    });

    test('only a touch is a use: not asking for presence, not a read, not a lease', async () => {
      const { store, evicted, read, write } = await storeWith(4, roots(0, 1, 2, 3));
      store.touch([key(0)]);
      store.has(key(1));
      await read(1);
      store.lease(key(1));
      store.release(key(1));
      await write(4);
      assert.deepEqual(evicted, [[1, 'capacity']]);
      await store.close();
    });

    test('a prefix goes from its end, however old its start is', async () => {
      const { store, evicted, write } = await storeWith(3, [root, middle, leaf]);
      store.touch([leaf.key]);
      for (const n of [3, 4]) await write(n);
      assert.deepEqual(evicted, [
        [2, 'capacity'],
        [1, 'capacity'],
      ]);
      await store.close();
    });

    test('a chunk never makes room for the one after it', async () => {
      const { store, evicted } = await storeWith(2, [chunk(3), root]);
      store.touch([key(3)]);
      assert.equal(await store.write(middle, bytesOf(1)), 'stored');
      assert.deepEqual(evicted, [[3, 'capacity']]);
      assert.equal(await store.write(leaf, bytesOf(2)), 'full');
      assert.deepEqual(evicted, [[3, 'capacity']]);
      await store.close();
    });

    test('a leased chunk is never evicted, however old', async () => {
      const { store, evicted, read, write } = await storeWith(3, roots(0, 1, 2));
      store.lease(key(0));
      for (const n of [3, 4]) await write(n);
      assert.deepEqual(evicted, [
        [1, 'capacity'],
        [2, 'capacity'],
      ]);
      assert.deepEqual(await read(0), bytesOf(0));
      store.release(key(0));
      await store.close();
    });

    test('when everything is leased a write is refused and nothing is lost', async () => {
      const { store, evicted, write } = await storeWith(3, roots(0, 1, 2));
      for (const n of [0, 1, 2]) store.lease(key(n));
      assert.equal(await write(3), 'full');
      assert.deepEqual(evicted, []);
      store.lease(key(1));
      store.release(key(1));
      assert.equal(await write(3), 'full');
      store.release(key(1));
      assert.equal(await write(3), 'stored');
      assert.deepEqual(evicted, [[1, 'capacity']]);
      for (const n of [0, 2]) store.release(key(n));
      await store.close();
    });

    test('a lower priority goes first, whatever was used when', async () => {
      const { store, evicted, write } = await storeWith(3, []);
      for (const [n, priority] of [51, 50, 49].entries())
        await store.write(chunk(n), bytesOf(n), { priority });
      store.touch([key(2)]);
      for (const n of [3, 4]) await store.write(chunk(n), bytesOf(n), { priority: 100 });
      assert.deepEqual(evicted, [
        [2, 'capacity'],
        [1, 'capacity'],
      ]);
      assert.equal(await write(2), 'stored');
      await store.close();
    });

    test('a priority may be given later, and is no use', async () => {
      const { store, evicted, write } = await storeWith(3, roots(0, 1, 2));
      store.retain([key(0)], { priority: 51 });
      store.retain([key(2)], { priority: 49 });
      for (const n of [3, 4]) assert.equal(await write(n), 'stored');
      assert.deepEqual(evicted, [
        [2, 'capacity'],
        [1, 'capacity'],
      ]);
      await store.close();
    });

    test('a pinned chunk stays until its pin runs out, and each use renews the pin', async () => {
      const { store, evicted, clock, write } = await storeWith(2, roots(0, 1));
      assert.equal(store.pin([key(0)], { ttlMs: 1000 }), 'pinned');
      await write(2);
      clock.nowMs += 999;
      store.touch([key(0)]);
      clock.nowMs += 999;
      await write(3);
      assert.deepEqual(evicted, [
        [1, 'capacity'],
        [2, 'capacity'],
      ]);
      clock.nowMs += 1;
      await write(4);
      assert.deepEqual(evicted.at(-1), [0, 'capacity']);
      await store.close();
    });

    test('an unpinned chunk may go again', async () => {
      const { store, evicted, write } = await storeWith(2, roots(0, 1));
      store.pin([key(0)], { ttlMs: 1000 });
      store.unpin([key(0)]);
      await write(2);
      assert.deepEqual(evicted, [[0, 'capacity']]);
      await store.close();
    });

    test('pins take their share and no more, all of a path or none', async () => {
      const { store, write } = await storeWith(4, [root, middle, leaf, chunk(3)]);
      assert.equal(store.pin(path, { ttlMs: 1000 }), 'over budget');
      assert.equal(store.pin(path.slice(1), { ttlMs: 1000 }), 'pinned');
      assert.equal(store.pin(path.slice(1), { ttlMs: 2000 }), 'pinned', 'again is no more');
      assert.equal(store.pin([key(3)], { ttlMs: 1000 }), 'over budget');
      for (const n of [0, 1, 2, 3, 4]) assert.notEqual(await write(n), 'full');
      assert(store.has(root.key) && store.has(middle.key));
      await store.close();
    });

    test('a pin refuses neither a removal nor the leaving of a corrupt chunk', async () => {
      const { store, damage, evicted, read } = await storeWith(4, roots(0, 1));
      store.pin([key(0), key(1)], { ttlMs: 1000 });
      assert(store.remove(key(0)));
      await damage(key(1));
      assert.equal(await read(1), 'corrupt');
      assert.deepEqual(evicted, [
        [0, 'deleted'],
        [1, 'corrupt'],
      ]);
      await store.close();
    });
  });

  if (createOpening !== undefined) {
    suite(`${name}, opening`, () => {
      test('every call is answered, and nothing is found', async () => {
        const store = createOpening({ chunks: 3, onEvict: () => {}, clock: new ManualClock() });
        assert.equal(store.state, 'opening');
        await assertUnavailable(store);
        await store.close();
        assert.equal(store.state, 'closed');
      });
    });
  }

  suite(`${name}, closing and closed`, () => {
    test('from the call on every call is answered, and nothing is found', async () => {
      const { store } = await storeWith(3, roots(0, 1));
      const closing = store.close();
      assert.notEqual(store.state, 'open');
      await assertUnavailable(store);
      await closing;
      await store.close();
      assert.equal(store.state, 'closed');
      await assertUnavailable(store);
    });

    test('a lease that outlives the store can be released', async () => {
      const { store } = await storeWith(3, roots(0));
      store.lease(key(0));
      await store.close();
      store.release(key(0));
    });
  });
}
