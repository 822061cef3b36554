/** TieredStore: the contract, alone and over a lower store; then what goes up and down, and when. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { createChecksum, HostStore, slotBytes, type TieredOptions, TieredStore } from '#storage';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryLowerStore } from '../support/memory-lower-store.js';
import { bytesOf, CHUNK_BYTES, chunk, chunkStoreContract, key, readOf } from './chunk-store.contract.js';

const checksum = await createChecksum();

/** Its writes are in both tiers when they resolve. */
class Mirrored extends TieredStore {
  override async write(...call: Parameters<TieredStore['write']>): ReturnType<TieredStore['write']> {
    const outcome = await super.write(...call);
    await this.flushed();
    return outcome;
  }
}

function storeOptions(chunks: number, clock = new ManualClock()) {
  return { chunkBytes: CHUNK_BYTES, capacityBytes: chunks * CHUNK_BYTES, checksum, clock };
}

function flip(store: HostStore, damaged: ReturnType<typeof key>): void {
  const place = store.lookup(damaged);
  if (place !== undefined) slotBytes(store.slab, place.slot)[7]! ^= 0b100;
}

chunkStoreContract('TieredStore without a disk', {
  create: async ({ chunks, onEvict, clock }) => {
    const store = new TieredStore({
      host: (onHostEvict) => new HostStore({ ...storeOptions(chunks), clock, onEvict: onHostEvict }),
      writePolicy: 'write-through',
      writeHits: 2,
      onEvict,
    });
    return { store, damage: (damaged) => flip(store.host, damaged) };
  },
});

chunkStoreContract('TieredStore, both tiers alike', {
  create: async ({ chunks, onEvict, clock }) => {
    let below: MemoryLowerStore | undefined;
    const store = new Mirrored({
      host: (onHostEvict) => new HostStore({ ...storeOptions(chunks), clock, onEvict: onHostEvict }),
      disk: (onDiskEvict) => {
        below = new MemoryLowerStore({ ...storeOptions(chunks), clock, onEvict: onDiskEvict });
        return below;
      },
      writePolicy: 'write-through',
      writeHits: 2,
      onEvict,
    });
    const damage = (damaged: ReturnType<typeof key>) => {
      flip(store.host, damaged);
      flip(below!, damaged);
    };
    return { store, damage, storedBytes: 2 * CHUNK_BYTES };
  },
});

const nameOf = (of: string) => [0, 1, 2, 3, 4, 5].findIndex((n) => key(n) === of);

/** Tiers of some chunks each, and what left. */
function tiers(chunks: { host: number; disk: number }, options: Partial<TieredOptions> = {}) {
  const gone: [number, string][] = [];
  const left: string[] = [];
  let below: MemoryLowerStore | undefined;
  const store = new TieredStore({
    host: (onEvict) => new HostStore({ ...storeOptions(chunks.host), onEvict }),
    disk: (onEvict) => {
      below = new MemoryLowerStore({ ...storeOptions(chunks.disk), onEvict });
      return below;
    },
    writePolicy: 'write-through',
    writeHits: 2,
    onEvict: (of, reason) => gone.push([nameOf(of), reason]),
    onTierEvict: (tier, _, reason) => left.push(`${tier} ${reason}`),
    ...options,
  });
  const write = (n: number) => store.write(chunk(n), bytesOf(n));
  const read = (n: number) => readOf(store, key(n));
  return { store, below: below!, gone, left, write, read };
}

suite('promotion', () => {
  test('a chunk that left host memory is read from disk, and is in host memory again', async () => {
    const { store, gone, write, read } = tiers({ host: 1, disk: 4 });
    await write(0);
    await store.flushed();
    await write(1);
    await store.flushed();
    assert.equal(store.tierOf(key(0)), 'disk');
    assert.deepEqual(await read(0), bytesOf(0));
    assert.equal(store.tierOf(key(0)), 'host');
    assert.deepEqual(gone, []);
    assert.equal(store.reading().promoted, 1);
  });

  test('a lossy copy stays known as lossy, in host memory and when it goes down again', async () => {
    const { store, below, write } = tiers({ host: 1, disk: 4 }, { writePolicy: 'write-through-selective' });
    const demote = async () => {
      for (const _ of [1, 2]) store.touch([key(0)]);
      await store.flushed();
      assert(below.has(key(0)));
    };
    below.isLossy = true;
    await write(0);
    await demote();
    assert.equal(store.exactOf(key(0)), true);
    await write(1);
    assert.equal(store.exactOf(key(0)), false);
    below.isLossy = false;
    assert.equal(await store.promote(key(0)), 'hit');
    assert.equal(store.exactOf(key(0)), false);
    below.remove(key(0), 'failed');
    await demote();
    assert.equal(below.exactOf(key(0)), false);
  });

  test('a promotion is no use beside that of the request it is made for', async () => {
    const { store, write } = tiers({ host: 1, disk: 4 });
    await write(0);
    await store.flushed();
    await write(1);
    await store.flushed();
    const uses: boolean[] = [];
    const commit = store.host.commit.bind(store.host);
    store.host.commit = (...call) => {
      uses.push(call[2]?.isUse ?? true);
      return commit(...call);
    };
    await store.promote(key(0));
    assert.deepEqual(uses, [false]);
  });

  test('a chunk that many wait for is read once', async () => {
    const { store, below, write } = tiers({ host: 1, disk: 4 });
    await write(0);
    await store.flushed();
    await write(1);
    await store.flushed();
    let reads = 0;
    const load = below.load.bind(below);
    below.load = (...call) => {
      reads++;
      return load(...call);
    };
    const outcomes = await Promise.all([1, 2, 3].map(() => store.promote(key(0))));
    assert.deepEqual([outcomes, reads], [['hit', 'hit', 'hit'], 1]);
  });

  test('where leases fill host memory a chunk is read past it', async () => {
    const { store, write, read } = tiers({ host: 1, disk: 4 });
    await write(0);
    await store.flushed();
    await write(1);
    store.lease(key(1));
    assert.equal(await store.promote(key(0)), 'full');
    assert.deepEqual(await read(0), bytesOf(0));
    assert.equal(store.reading().promotionsRefused, 2);
    store.release(key(1));
  });

  for (const outcome of ['corrupt', 'failed', 'missing', 'unavailable'] as const) {
    test(`a load that is ${outcome} is a miss, and its slot is free again`, async () => {
      const { store, below, write, read } = tiers({ host: 1, disk: 4 });
      await write(0);
      await store.flushed();
      await write(1);
      await store.flushed();
      below.nextLoad = outcome;
      assert.equal(await store.promote(key(0)), outcome);
      assert.equal(store.host.usedBytes, 0);
      below.nextLoad = undefined;
      assert.equal(await write(2), 'stored');
      assert.deepEqual(await read(2), bytesOf(2));
    });
  }

  test('a chunk that is removed while it is read does not come back', async () => {
    const { store, below, write, read, gone } = tiers({ host: 1, disk: 4 });
    await write(0);
    await store.flushed();
    await write(1);
    await store.flushed();
    const release = below.hold();
    const promotion = store.promote(key(0));
    assert(store.remove(key(0)));
    assert.deepEqual(gone, [[0, 'deleted']]);
    release();
    assert.equal(await promotion, 'missing');
    assert.equal(await read(0), 'missing');
    assert.equal(below.usedBytes, CHUNK_BYTES);
  });

  test('a corrupt copy in host memory is read from disk instead', async () => {
    const { store, write, read, left, gone } = tiers({ host: 2, disk: 4 });
    await write(0);
    await store.flushed();
    flip(store.host, key(0));
    assert.deepEqual(await read(0), bytesOf(0));
    assert.deepEqual([left, gone], [['host corrupt'], []]);
  });

  test('a lease from before its promotion holds a chunk in host memory', async () => {
    const { store, write } = tiers({ host: 1, disk: 4 });
    await write(0);
    await store.flushed();
    await write(1);
    await store.flushed();
    store.lease(key(0));
    await store.promote(key(0));
    assert.equal(await write(2), 'full');
    store.release(key(0));
    assert.equal(await write(2), 'stored');
  });
});

suite('demotion', () => {
  test('write-through stores a chunk below after its parent', async () => {
    const { store, below } = tiers({ host: 4, disk: 4 });
    const [root, leaf] = [chunk(0), chunk(1, chunk(0))];
    for (const each of [root, leaf]) await store.write(each, bytesOf(each.tokens[0]!));
    await store.flushed();
    assert.deepEqual(below.stored, [root.key, leaf.key]);
  });

  test('write-through-selective stores a chunk below at its second use, its ancestors first', async () => {
    const { store, below } = tiers({ host: 4, disk: 4 }, { writePolicy: 'write-through-selective' });
    const [root, leaf] = [chunk(0), chunk(1, chunk(0))];
    for (const each of [root, leaf]) await store.write(each, bytesOf(each.tokens[0]!));
    store.touch([leaf.key, root.key]);
    await store.flushed();
    assert.deepEqual(below.stored, []);
    store.touch([leaf.key]);
    await store.flushed();
    assert.deepEqual(below.stored, [root.key, leaf.key]);
  });

  test('write-back stores what is next to be evicted, and the rest when it is closed', async () => {
    const { store, below, gone, write } = tiers({ host: 4, disk: 8 }, { writePolicy: 'write-back' });
    for (const n of [0, 1]) await write(n);
    await store.flushed();
    assert.equal(below.stored.length, 0);
    for (const n of [2, 3]) await write(n);
    await store.flushed();
    await write(4);
    assert.deepEqual(gone, []);
    await store.flushed();
    assert(below.stored.includes(key(0)));
    await store.close();
    const kept = new Set(below.stored);
    for (const n of [0, 1, 2, 3, 4]) assert(kept.has(key(n)));
  });

  test('what is evicted before its turn is lost, and counted', async () => {
    const { store, below, write } = tiers({ host: 9, disk: 20 });
    below.hold();
    for (let n = 0; n < 9; n++) await write(n);
    assert.equal(store.reading().queued, 9);
    await write(9);
    // Eight are being written and leased; the ninth waited, and left.
    assert.deepEqual([store.host.has(key(7)), store.host.has(key(8))], [true, false]);
  });

  test('a refused write is counted, and the chunk stays in host memory', async () => {
    const { store, below, write, read } = tiers({ host: 4, disk: 4 });
    below.refusesWrites = true;
    await write(0);
    await store.flushed();
    assert.equal(store.reading().writes.refused, 1);
    assert.deepEqual(await read(0), bytesOf(0));
  });

  test('nothing is written that would be slower to read than to compute', async () => {
    const { store, below, write } = tiers({ host: 4, disk: 4 }, { isWorthWriting: () => false });
    await write(0);
    await store.flushed();
    assert.deepEqual([below.stored, store.reading().writesNotWorth], [[], 1]);
  });

  test('a chunk that is removed while it is written does not stay below', async () => {
    const { store, below, write, gone } = tiers({ host: 4, disk: 4 });
    const release = below.hold();
    await write(0);
    assert(store.remove(key(0)));
    release();
    await store.flushed();
    assert.equal(below.has(key(0)), false);
    assert.deepEqual(gone, [[0, 'deleted']]);
  });

  test('a pin holds a chunk in each tier it comes to', async () => {
    const { store, below, write } = tiers({ host: 4, disk: 4 }, { writePolicy: 'write-through-selective' });
    await write(0);
    assert.equal(store.pin([key(0)], { ttlMs: 1000 }), 'pinned');
    for (const _ of [1, 2]) store.touch([key(0)]);
    await store.flushed();
    assert.equal(below.pinTtlMs(key(0)), 1000);
  });
});

test('closing waits for the writes under way, but not for ever', async () => {
  const { store, below, write } = tiers({ host: 20, disk: 20 });
  const release = below.hold();
  for (let n = 0; n < 12; n++) await write(n);
  const closed = store.close(Promise.resolve());
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(store.state, 'closing');
  release();
  await closed;
  assert.equal(store.state, 'closed');
  assert.deepEqual([below.stored.length, store.reading().writes.lost], [8, 4]);
});
