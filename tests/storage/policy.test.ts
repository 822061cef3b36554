/** What each eviction policy does, by name; what holds whatever the policy is in residents.property.test.ts. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { type ChunkKey, POLICY_NAMES, type PolicyName } from '#storage';
import { Residents } from '../../storage/residents.js';
import { ManualClock } from '../support/manual-clock.js';
import { chunk } from './chunk-store.contract.js';

/** A tier of single chunks named by numbers, all of one byte unless said otherwise. */
class Tier {
  readonly gone: number[] = [];
  readonly #residents: Residents<number>;

  constructor(policy: PolicyName, capacityBytes: number) {
    this.#residents = new Residents({
      capacityBytes,
      policy,
      clock: new ManualClock(),
      onLeave: ({ data }) => this.gone.push(data),
      onFree: () => {},
    });
  }

  /** A chunk comes, at position 0 or after the chunk `after` at position 0. */
  add(name: number, { bytes = 1, after }: { bytes?: number; after?: number } = {}): void {
    const { key, parent, namespace } = chunk(name, after === undefined ? undefined : chunk(after));
    assert(this.#residents.add({ key, parent, namespace, bytes, data: name }) !== undefined);
    this.#residents.commit(key);
  }

  use(...names: readonly number[]): void {
    for (const name of names) this.#residents.touch([chunk(name).key]);
  }

  /** The first chunks that leave to make room for `bytes`. */
  evictedFor(bytes: number): number[] {
    const before = this.gone.length;
    assert(this.#residents.makeRoom(bytes));
    return this.gone.slice(before);
  }

  /** Single requests: whether each hit. A miss is kept. */
  ask(...names: readonly number[]): boolean[] {
    return names.map((name) => {
      const key: ChunkKey = chunk(name).key;
      const isHit = this.#residents.get(key) !== undefined;
      if (isHit) this.use(name);
      else this.add(name);
      return isHit;
    });
  }
}

function full(policy: PolicyName, chunks: number): Tier {
  const tier = new Tier(policy, chunks);
  for (let name = 0; name < chunks; name++) tier.add(name);
  return tier;
}

for (const policy of POLICY_NAMES) {
  test(`${policy}: a chunk never goes before the one after it`, () => {
    const tier = new Tier(policy, 4);
    tier.add(0);
    tier.add(10, { after: 0 });
    tier.add(11, { after: 0 });
    tier.add(1);
    for (let i = 0; i < 3; i++) tier.use(1);
    assert.deepEqual(
      tier
        .evictedFor(4)
        .filter((name) => name !== 1)
        .at(-1),
      0,
    );
  });
}

test('lru: the least recently used goes first, however often it was used', () => {
  const tier = full('lru', 3);
  tier.use(0, 0, 0, 1, 2);
  assert.deepEqual(tier.evictedFor(2), [0, 1]);
});

suite('lfu', () => {
  test('the least often used goes first, however recently it was used', () => {
    const tier = full('lfu', 3);
    tier.use(0, 0, 1, 1, 1, 2);
    assert.deepEqual(tier.evictedFor(2), [2, 0]);
  });

  test('of equally often used ones the least recently used goes first', () => {
    const tier = full('lfu', 3);
    tier.use(1, 0, 2);
    assert.deepEqual(tier.evictedFor(3), [1, 0, 2]);
  });
});

suite('slru', () => {
  test('chunks that were never used go before those that were, however recent they are', () => {
    const tier = full('slru', 5);
    tier.use(0, 1);
    assert.deepEqual(tier.evictedFor(5), [2, 3, 4, 0, 1]);
  });

  test('a use beyond the protected share puts the least recently used one back on probation, as its newest', () => {
    const tier = full('slru', 5);
    tier.use(0, 1, 2, 3, 4);
    tier.evictedFor(0);
    assert.deepEqual(tier.evictedFor(2), [0, 1]);
    const again = full('slru', 5);
    again.use(1, 2, 3, 0, 4);
    assert.deepEqual(again.evictedFor(1), [1], 'the four used last are protected');
  });
});

suite('s3-fifo', () => {
  test('a chunk that was used twice while it was new outlives the newer ones that were not', () => {
    const tier = full('s3-fifo', 10);
    tier.use(0, 0, 1);
    assert.deepEqual(tier.evictedFor(8), [1, 2, 3, 4, 5, 6, 7, 8]);
  });

  test('a chunk that comes back soon after it was evicted stays longer', () => {
    const tier = full('s3-fifo', 10);
    assert.deepEqual(tier.evictedFor(1), [0]);
    tier.add(0);
    for (let name = 20; name < 27; name++) {
      tier.evictedFor(1);
      tier.add(name);
    }
    assert(!tier.gone.slice(1).includes(0));
    assert.deepEqual(tier.gone.slice(1, 3), [1, 2]);
  });

  test('each use buys a round in the main queue, which gives way while the small one is small', () => {
    const tier = full('s3-fifo', 10);
    tier.use(0, 0, 1, 1);
    assert.deepEqual(tier.evictedFor(7), [2, 3, 4, 5, 6, 7, 8]);
    tier.use(0);
    assert.deepEqual(tier.evictedFor(10), [1, 0, 9]);
  });
});

suite('gdsf', () => {
  test('the larger of two equally used chunks goes first', () => {
    const tier = new Tier('gdsf', 6);
    tier.add(0, { bytes: 2 });
    tier.add(1, { bytes: 4 });
    assert.deepEqual(tier.evictedFor(1), [1]);
  });

  test('a use is worth a byte: twice as large and twice as often used is alike', () => {
    const tier = new Tier('gdsf', 9);
    tier.add(0, { bytes: 4 });
    tier.add(1, { bytes: 2 });
    tier.add(2, { bytes: 3 });
    tier.use(0, 0);
    assert.deepEqual(tier.evictedFor(9), [2, 1, 0]);
  });

  test('of two chunks the one that takes longer to compute stays: it has more before it', () => {
    const tier = new Tier('gdsf', 3);
    tier.add(0);
    tier.add(10, { after: 0 });
    tier.add(1);
    assert.deepEqual(tier.evictedFor(1), [1]);
  });

  test('uses of long ago count for less and less', () => {
    const tier = new Tier('gdsf', 2);
    tier.add(0);
    tier.use(0, 0, 0);
    for (let name = 1; name < 9; name++) {
      tier.evictedFor(1);
      tier.add(name);
    }
    assert(tier.gone.includes(0));
  });
});

function loop(tier: Tier, length: number, rounds: number): number {
  let hits = 0;
  for (let i = 0; i < length * rounds; i++) hits += Number(tier.ask(i % length)[0]);
  return hits;
}

suite('adaptive', () => {
  test('it goes by LRU until something else was seen to be better', () => {
    const tier = full('adaptive', 3);
    tier.use(0, 0, 0, 1, 2);
    assert.deepEqual(tier.evictedFor(2), [0, 1]);
  });

  test('a loop longer than the tier hits, which LRU never does', () => {
    const tier = new Tier('adaptive', 400);
    loop(tier, 600, 10);
    const hits = loop(tier, 600, 5);
    assert(hits > 0.3 * 3000, `${hits} of at best 2000`);
    assert.equal(loop(new Tier('lru', 400), 600, 5), 0);
  });

  test('it goes back to LRU when that is better', () => {
    const [adaptive, lru] = (['adaptive', 'lru'] as const).map((policy) => {
      const tier = new Tier(policy, 400);
      loop(tier, 600, 10);
      // New names, each asked for once more while LRU has it, and never again.
      const names = Array.from({ length: 12_000 }, (_, i) => (i % 2 === 0 ? 1000 + i : 1000 + i - 301));
      return tier
        .ask(...names)
        .slice(4000)
        .filter(Boolean).length;
    });
    assert.equal(lru, 4000);
    assert(adaptive! >= 0.99 * lru, `${adaptive} hits`);
  });
});
