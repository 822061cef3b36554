/**
 * What every ChunkStore promises, for the states open, full and closed. A tier's test calls `chunkStoreContract`
 * with a way to make one that holds `chunks` chunks of `CHUNK_BYTES`, and to damage a chunk at rest.
 */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { type ChunkKey, type ChunkStore, chunkKey, type EvictReason, type OnEvict } from '#storage';

export const CHUNK_BYTES = 64;

export interface StoreUnderTest {
  readonly store: ChunkStore;
  /** Flips one bit of a stored chunk behind the store's back. */
  readonly damage: (key: ChunkKey) => void | Promise<void>;
}
type CreateStore = (options: {
  readonly chunks: number;
  readonly onEvict: OnEvict;
}) => Promise<StoreUnderTest>;

export const key = (name: number): ChunkKey =>
  chunkKey({ fingerprint: 'test', salt: '', parent: undefined, tokens: Int32Array.of(name) });
export const bytesOf = (name: number): Uint8Array => new Uint8Array(CHUNK_BYTES).fill(name + 1);

async function readOf(store: ChunkStore, name: number): Promise<Uint8Array | string> {
  const into = new Uint8Array(CHUNK_BYTES);
  const outcome = await store.read(key(name), into);
  return outcome === 'hit' ? into : outcome;
}

export function chunkStoreContract(name: string, create: CreateStore): void {
  async function storeWith(chunks: number, names: readonly number[]) {
    const evicted: [number, EvictReason][] = [];
    const { store, damage } = await create({
      chunks,
      onEvict: (gone, reason) => evicted.push([[0, 1, 2, 3, 4].findIndex((n) => key(n) === gone), reason]),
    });
    for (const n of names) assert.equal(await store.write(key(n), bytesOf(n)), 'stored');
    return { store, damage, evicted };
  }

  suite(`${name}, open`, () => {
    test('a written chunk is read back as it was', async () => {
      const { store } = await storeWith(3, [0, 1]);
      assert.deepEqual(await readOf(store, 0), bytesOf(0));
      assert.deepEqual(await readOf(store, 1), bytesOf(1));
      assert(await store.has(key(1)));
    });

    test('a chunk that was never written is missing', async () => {
      const { store } = await storeWith(3, [0]);
      assert.equal(await readOf(store, 1), 'missing');
      assert.equal(await store.has(key(1)), false);
      assert.equal(store.lease(key(1)), false);
      assert.equal(store.remove(key(1)), false);
    });

    test('a sealed chunk never changes: not by another write, not through the buffers given', async () => {
      const { store } = await storeWith(3, []);
      const given = bytesOf(0);
      await store.write(key(0), given);
      given.fill(99);
      assert.equal(await store.write(key(0), given), 'present');
      const read = await readOf(store, 0);
      assert(typeof read !== 'string');
      assert.deepEqual(read, bytesOf(0));
      read.fill(99);
      assert.deepEqual(await readOf(store, 0), bytesOf(0));
    });

    test('a flipped bit is read as corrupt, and the chunk is gone', async () => {
      const { store, damage, evicted } = await storeWith(3, [0, 1]);
      await damage(key(0));
      assert.equal(await readOf(store, 0), 'corrupt');
      assert.equal(await readOf(store, 0), 'missing');
      assert.deepEqual(evicted, [[0, 'corrupt']]);
      assert.equal(store.usedBytes, CHUNK_BYTES);
      assert.deepEqual(await readOf(store, 1), bytesOf(1));
    });

    test('a removed chunk is gone, its bytes are free, and its key can be written anew', async () => {
      const { store, evicted } = await storeWith(3, [0, 1]);
      assert(store.remove(key(0)));
      assert.equal(await readOf(store, 0), 'missing');
      assert.deepEqual(evicted, [[0, 'deleted']]);
      assert.equal(store.usedBytes, CHUNK_BYTES);
      assert.equal(await store.write(key(0), bytesOf(0)), 'stored');
    });

    test('a removed chunk cannot be read, but its bytes are in use until its last lease ends', async () => {
      const { store, evicted } = await storeWith(3, [0]);
      store.lease(key(0));
      store.lease(key(0));
      assert(store.remove(key(0)));
      assert.equal(await readOf(store, 0), 'missing');
      assert.equal(store.lease(key(0)), false);
      assert.equal(store.remove(key(0)), false);
      assert.deepEqual(evicted, [[0, 'deleted']]);
      store.release(key(0));
      assert.equal(store.usedBytes, CHUNK_BYTES);
      store.release(key(0));
      assert.equal(store.usedBytes, 0);
    });

    test('a release without a lease is a programmer error', async () => {
      const { store } = await storeWith(3, [0]);
      assert.throws(() => store.release(key(0)), { name: 'AssertionError' });
    });

    test('a buffer of the wrong length is a programmer error', async () => {
      const { store } = await storeWith(3, [0]);
      await assert.rejects(store.read(key(0), new Uint8Array(CHUNK_BYTES - 1)), { name: 'AssertionError' });
      await assert.rejects(store.write(key(1), new Uint8Array(CHUNK_BYTES + 1)), { name: 'AssertionError' });
    });
  });

  suite(`${name}, full`, () => {
    test('the least recently used chunk makes room, and the bytes stay within the capacity', async () => {
      const { store, evicted } = await storeWith(3, [0, 1, 2]);
      assert.equal(store.usedBytes, 3 * CHUNK_BYTES);
      assert.equal(await store.write(key(3), bytesOf(3)), 'stored');
      assert.deepEqual(evicted, [[0, 'capacity']]);
      assert.equal(store.usedBytes, 3 * CHUNK_BYTES);
      assert(store.usedBytes <= store.capacityBytes);
      assert.equal(await readOf(store, 0), 'missing');
      assert.deepEqual(await readOf(store, 3), bytesOf(3));
    });

    test('a read counts as a use, asking for presence does not', async () => {
      const { store, evicted } = await storeWith(3, [0, 1, 2]);
      await readOf(store, 0);
      await store.has(key(1));
      await store.write(key(3), bytesOf(3));
      assert.deepEqual(evicted, [[1, 'capacity']]);
    });

    test('a touched path goes child first', async () => {
      const { store, evicted } = await storeWith(3, [0, 1, 2]);
      store.touch([key(2), key(4), key(1), key(0)]);
      for (const n of [3, 4]) await store.write(key(n), bytesOf(n));
      assert.deepEqual(evicted, [
        [2, 'capacity'],
        [1, 'capacity'],
      ]);
    });

    test('a leased chunk is never evicted, however old', async () => {
      const { store, evicted } = await storeWith(3, [0, 1, 2]);
      store.lease(key(0));
      for (const n of [3, 4]) await store.write(key(n), bytesOf(n));
      assert.deepEqual(evicted, [
        [1, 'capacity'],
        [2, 'capacity'],
      ]);
      assert.deepEqual(await readOf(store, 0), bytesOf(0));
    });

    test('when everything is leased a write is refused and nothing is lost', async () => {
      const { store, evicted } = await storeWith(3, [0, 1, 2]);
      for (const n of [0, 1, 2]) store.lease(key(n));
      assert.equal(await store.write(key(3), bytesOf(3)), 'full');
      assert.deepEqual(evicted, []);
      store.lease(key(1));
      store.release(key(1));
      assert.equal(await store.write(key(3), bytesOf(3)), 'full');
      store.release(key(1));
      assert.equal(await store.write(key(3), bytesOf(3)), 'stored');
      assert.deepEqual(evicted, [[1, 'capacity']]);
    });

    test('a released chunk is the most recently used', async () => {
      const { store, evicted } = await storeWith(3, [0, 1, 2]);
      store.lease(key(0));
      store.release(key(0));
      await store.write(key(3), bytesOf(3));
      assert.deepEqual(evicted, [[1, 'capacity']]);
    });
  });

  suite(`${name}, closed`, () => {
    test('every call is answered, and nothing is found', async () => {
      const { store } = await storeWith(3, [0, 1]);
      await store.close();
      await store.close();
      assert.equal(store.state, 'closed');
      assert.equal(await store.has(key(0)), false);
      assert.equal(await readOf(store, 0), 'closed');
      assert.equal(await store.write(key(2), bytesOf(2)), 'closed');
      assert.equal(store.lease(key(0)), false);
      assert.equal(store.remove(key(0)), false);
      store.touch([key(0)]);
    });

    test('a lease that outlives the store can be released', async () => {
      const { store } = await storeWith(3, [0]);
      store.lease(key(0));
      await store.close();
      store.release(key(0));
    });
  });
}
