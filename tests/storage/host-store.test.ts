/** HostStore: the contract of every tier, then the slots that another thread fills. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { createChecksum, HostStore, slotBytes } from '#storage';
import { ManualClock } from '../support/manual-clock.js';
import { bytesOf, CHUNK_BYTES, chunk, chunkStoreContract, key, readOf } from './chunk-store.contract.js';

const checksum = await createChecksum();

chunkStoreContract('HostStore', {
  create: async ({ chunks, onEvict, clock }) => {
    const capacityBytes = chunks * CHUNK_BYTES;
    const store = new HostStore({ chunkBytes: CHUNK_BYTES, capacityBytes, checksum, onEvict, clock });
    return {
      store,
      damage: (damaged) => {
        slotBytes(store.slab, store.lookup(damaged)!.slot)[7]! ^= 0b100;
      },
    };
  },
});

const hostStore = (chunks: number, spareBytes = 0) =>
  new HostStore({
    chunkBytes: CHUNK_BYTES,
    capacityBytes: chunks * CHUNK_BYTES + spareBytes,
    checksum,
    clock: new ManualClock(),
  });

test('a chunk is found from its commit on, where its bytes were put', async () => {
  const store = hostStore(2);
  const slot = store.reserve(chunk(0), { ttlMs: 5, priority: 7 })!;
  assert(store.isReserved(key(0)));
  slotBytes(store.slab, slot).set(bytesOf(0));
  assert.equal(store.lookup(key(0)), undefined);
  assert.equal(store.identity(key(0)), undefined);
  assert.equal(store.has(key(0)), false);
  assert.equal(store.usedBytes, CHUNK_BYTES);
  assert.equal(store.freeSlots, 1);
  assert(store.commit(key(0), checksum(bytesOf(0))));
  assert.equal(store.isReserved(key(0)), false);
  const found = store.lookup(key(0));
  assert.deepEqual([found?.slot, found?.checksum], [slot, checksum(bytesOf(0))]);
  assert.deepEqual(store.identity(key(0)), chunk(0));
  assert.deepEqual(store.retention(key(0)), { ttlMs: 5, priority: 7 });
  assert.deepEqual(await readOf(store, key(0)), bytesOf(0));
});

test('what a chunk is does not change with the tokens it was given as', () => {
  const store = hostStore(1);
  const given = chunk(0);
  store.reserve(given);
  store.commit(key(0), 0n);
  given.tokens.fill(9);
  assert.deepEqual(store.identity(key(0)), chunk(0));
});

test('an aborted chunk leaves no trace, and its slot is given out again', () => {
  const store = hostStore(1);
  const slot = store.reserve(chunk(0));
  store.abort(key(0));
  assert.equal(store.usedBytes, 0);
  assert.equal(store.lookup(key(0)), undefined);
  assert.equal(store.reserve(chunk(1)), slot);
});

test('a reserved slot is not given out and not evicted', () => {
  const store = hostStore(2);
  assert.notEqual(store.reserve(chunk(0)), store.reserve(chunk(1)));
  assert.equal(store.reserve(chunk(2)), undefined);
});

test('a write gives way to a chunk that is being sealed', async () => {
  const store = hostStore(2);
  store.reserve(chunk(0));
  assert.equal(await store.write(chunk(0), bytesOf(0)), 'present');
});

test('a key is reserved once, and only a reserved key is committed or aborted', () => {
  const store = hostStore(2);
  store.reserve(chunk(0));
  assert.throws(() => store.reserve(chunk(0)), { name: 'AssertionError' });
  store.commit(key(0), 0n);
  assert.throws(() => store.reserve(chunk(0)), { name: 'AssertionError' });
  assert.throws(() => store.commit(key(0), 0n), { name: 'AssertionError' });
  assert.throws(() => store.abort(key(0)), { name: 'AssertionError' });
});

test('bytes that are still being read are not written over, even for their own key', async () => {
  const store = hostStore(2);
  store.reserve(chunk(0));
  store.commit(key(0), 0n);
  store.lease(key(0));
  store.remove(key(0), 'corrupt');
  assert.equal(store.reserve(chunk(0)), undefined);
  assert.equal(await store.write(chunk(0), bytesOf(0)), 'full');
  store.release(key(0));
  assert.notEqual(store.reserve(chunk(0)), undefined);
});

test('a chunk sealed after the store was closed is not kept', async () => {
  const store = hostStore(2);
  store.reserve(chunk(0));
  await store.close();
  assert.equal(store.reserve(chunk(1)), undefined);
  assert.equal(store.commit(key(0), 0n), false);
  assert.equal(store.usedBytes, 0);
});

test('closing reports every chunk, children before their parents', async () => {
  const closed: string[] = [];
  const store = new HostStore({
    chunkBytes: CHUNK_BYTES,
    capacityBytes: 4 * CHUNK_BYTES,
    checksum,
    clock: new ManualClock(),
    onEvict: (gone, reason) => closed.push(`${gone} ${reason}`),
  });
  const root = chunk(0);
  const middle = chunk(1, root);
  const leaf = chunk(2, middle);
  for (const each of [root, middle, leaf]) await store.write(each, bytesOf(0));
  store.lease(middle.key);
  await store.close();
  assert.deepEqual(
    closed,
    [leaf, middle, root].map((each) => `${each.key} closed`),
  );
});

test('it tells how often a chunk was used, and who would go next', async () => {
  const store = hostStore(3);
  for (const n of [0, 1, 2]) await store.write(chunk(n), bytesOf(n));
  store.touch([key(0)]);
  store.touch([key(0)]);
  assert.deepEqual(
    [0, 1, 3].map((n) => store.hits(key(n))),
    [2, 0, 0],
  );
  assert.deepEqual(store.victims(2), [key(1), key(2)]);
  assert.deepEqual(store.victims(9), [key(1), key(2), key(0)]);
});

test('capacity that holds no whole chunk is not used', () => {
  const store = hostStore(1, CHUNK_BYTES - 1);
  store.reserve(chunk(0));
  assert.equal(store.reserve(chunk(1)), undefined);
  assert.throws(() => hostStore(0, CHUNK_BYTES - 1), { name: 'AssertionError' });
});

test('another thread sees the same slots', () => {
  const store = hostStore(3);
  store.reserve(chunk(0));
  const slot = store.reserve(chunk(1))!;
  const { port1, port2 } = new MessageChannel();
  port1.postMessage(store.slab);
  const there: typeof store.slab = receiveMessageOnPort(port2)?.message;
  slotBytes(there, slot).fill(15);
  port1.close();
  assert.deepEqual([...new Set(slotBytes(store.slab, slot))], [15]);
  assert.deepEqual([...new Set(slotBytes(store.slab, slot - 1))], [0]);
});
