/** Two classes of chunks in one tier: what one can do to the other, whatever the policy. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import {
  type ChunkKey,
  chunkKey,
  type EvictReason,
  POLICY_NAMES,
  type PolicyName,
  type Shares,
} from '#storage';
import { Residents } from '../../storage/residents.js';
import { ManualClock } from '../support/manual-clock.js';

type Kind = 'a' | 'b';

/** Chunk i of its kind stands after chunk ⌊(i - 1) / 2⌋. */
interface Named {
  readonly key: ChunkKey;
  readonly parent: ChunkKey | undefined;
  readonly namespace: Kind;
}

function chunksOf(namespace: Kind, count: number): Named[] {
  const chunks: Named[] = [];
  for (let i = 0; i < count; i++) {
    const parent = i === 0 ? undefined : chunks[(i - 1) >> 1]!.key;
    const key = chunkKey({ fingerprint: 'test', salt: namespace, parent, tokens: Int32Array.of(i) });
    chunks.push({ key, parent, namespace });
  }
  return chunks;
}

/** Chunks at position 0, by number. */
function single(namespace: Kind, i: number): Named {
  const tokens = Int32Array.of(i);
  return {
    key: chunkKey({ fingerprint: 'test', salt: namespace, parent: undefined, tokens }),
    parent: undefined,
    namespace,
  };
}

const sharesOf = (a: number): Shares => ({ of: { a, b: 1 - a }, classOf: (namespace) => namespace });

interface Departure {
  readonly kind: Kind;
  readonly reason: EvictReason;
  /** What the class took before. */
  readonly bytesBefore: number;
}

class Tier {
  readonly residents: Residents<Kind>;
  readonly left: Departure[] = [];
  readonly order: ChunkKey[] = [];

  constructor(options: { capacity: number; policy: PolicyName; shares?: Shares; pinShare?: number }) {
    const { capacity: capacityBytes, ...rest } = options;
    this.residents = new Residents({
      ...rest,
      capacityBytes,
      clock: new ManualClock(0),
      onLeave: ({ key, data: kind, bytes }, reason) => {
        const bytesBefore = this.bytes(kind) + bytes;
        this.left.push({ kind, reason, bytesBefore });
        this.order.push(key);
      },
      onFree: () => {},
    });
  }

  bytes(kind: Kind): number {
    return this.residents.classes()[kind]?.bytes ?? 0;
  }

  /** Whether it is there now. */
  add(chunk: Named, bytes = 1): boolean {
    if (this.residents.isTaken(chunk.key)) return true;
    const isAdded = this.residents.add({ ...chunk, bytes, data: chunk.namespace }) !== undefined;
    if (isAdded) this.residents.commit(chunk.key);
    return isAdded;
  }

  addAll(kind: Kind, range: { start: number; end: number }): void {
    for (let i = range.start; i < range.end; i++) this.add(single(kind, i));
  }

  ask(chunk: Named): void {
    if (this.residents.get(chunk.key) !== undefined) this.residents.touch([chunk.key]);
    else this.add(chunk);
  }
}

const policy = fc.constantFrom(...POLICY_NAMES);
const share = fc.constantFrom(0, 0.1, 0.25, 0.5, 0.75, 1);
const TREES = { a: chunksOf('a', 12), b: chunksOf('b', 12) };
const step = fc.record({
  do: fc.constantFrom('add', 'add', 'add', 'touch', 'lease', 'release', 'pin', 'unpin', 'remove', 'shrink'),
  kind: fc.constantFrom<Kind>('a', 'b'),
  i: fc.nat(11),
  bytes: fc.integer({ min: 1, max: 3 }),
});

suite('two classes in a tier', () => {
  test('what takes at most its share loses nothing to the other, and every counter equals a recount', () => {
    const capacity = 12;
    fc.assert(
      fc.property(policy, share, fc.array(step, { maxLength: 120 }), (name, shareOfA, steps) => {
        const shares = sharesOf(shareOfA);
        const tier = new Tier({ capacity, policy: name, shares });
        const { residents, left } = tier;
        const leases = new Map<ChunkKey, number>();
        for (const { do: call, kind, i, bytes } of steps) {
          const chunk = TREES[kind][i]!;
          const { key } = chunk;
          const before = left.length;
          if (call === 'add') tier.add(chunk, bytes);
          else if (call === 'touch') residents.touch([key]);
          else if (call === 'lease' && residents.lease(key)) leases.set(key, (leases.get(key) ?? 0) + 1);
          else if (call === 'release' && (leases.get(key) ?? 0) > 0) {
            residents.release(key);
            leases.set(key, leases.get(key)! - 1);
          } else if (call === 'pin') residents.pin([key], { ttlMs: 5 });
          else if (call === 'unpin') residents.unpin([key]);
          else if (call === 'remove') residents.remove(key, 'deleted');
          else if (call === 'shrink') residents.makeRoom(bytes);
          residents.audit();
          if (call !== 'add') continue;
          for (const gone of left.slice(before)) {
            if (gone.kind !== kind) assert(gone.bytesBefore > shares.of[gone.kind]! * capacity);
          }
        }
      }),
    );
  });

  test('a stream of one class, however long, takes the other nothing of its share and all that it leaves', () => {
    fc.assert(
      fc.property(
        policy,
        fc.integer({ min: 0, max: 10 }),
        fc.integer({ min: 0, max: 5 }),
        (name, kept, more) => {
          const tier = new Tier({ capacity: 20, policy: name, shares: sharesOf(0.5) });
          tier.addAll('a', { start: 0, end: kept + more });
          tier.addAll('b', { start: 0, end: 300 });
          assert.equal(tier.bytes('a'), Math.min(10, kept + more));
          assert.equal(tier.bytes('a') + tier.bytes('b'), 20);
          tier.residents.audit();
        },
      ),
    );
  });

  test('what was lent is given back on demand, up to the share and no further', () => {
    fc.assert(
      fc.property(policy, share, (name, shareOfA) => {
        const tier = new Tier({ capacity: 20, policy: name, shares: sharesOf(shareOfA) });
        tier.addAll('b', { start: 0, end: 50 });
        assert.equal(tier.bytes('b'), 20);
        tier.addAll('a', { start: 0, end: 50 });
        const ownBytes = Math.max(Math.ceil(20 * shareOfA), tier.bytes('a'));
        assert.equal(tier.bytes('a'), ownBytes);
        assert.equal(tier.bytes('a') + tier.bytes('b'), 20);
        assert(tier.left.filter(({ kind }) => kind === 'b').every(({ reason }) => reason === 'capacity'));
      }),
    );
  });

  test('a chunk is refused when its class is held at its share, and taken again once it is not', () => {
    const tier = new Tier({ capacity: 4, policy: 'lru', shares: sharesOf(0.5) });
    tier.addAll('a', { start: 0, end: 2 });
    tier.addAll('b', { start: 0, end: 2 });
    for (const i of [0, 1]) tier.residents.lease(single('b', i).key);
    assert.equal(tier.add(single('b', 2)), false);
    assert.equal(tier.bytes('a'), 2);
    tier.residents.release(single('b', 1).key);
    assert.equal(tier.add(single('b', 2)), true);
    assert.deepEqual(tier.order, [single('b', 1).key]);
  });

  test('what is held beyond a share does not keep the other from evicting its own', () => {
    const tier = new Tier({ capacity: 4, policy: 'lru', shares: sharesOf(0.5) });
    tier.addAll('b', { start: 0, end: 3 });
    tier.addAll('a', { start: 0, end: 1 });
    for (const i of [0, 1, 2]) tier.residents.lease(single('b', i).key);
    assert.equal(tier.add(single('a', 1)), true);
    assert.deepEqual(tier.order, [single('a', 0).key]);
  });

  test('a tier that gets less room takes it from what has most beyond its share of what is left', () => {
    const tier = new Tier({ capacity: 20, policy: 'lru', shares: sharesOf(0.5) });
    tier.addAll('a', { start: 0, end: 5 });
    tier.addAll('b', { start: 0, end: 15 });
    assert(tier.residents.makeRoom(10));
    assert.deepEqual([tier.bytes('a'), tier.bytes('b')], [5, 5]);
    assert(tier.residents.makeRoom(20), 'and from all, if need be');
  });

  test('pins of one class leave those of the other their budget', () => {
    const tier = new Tier({ capacity: 20, policy: 'lru', shares: sharesOf(0.5) });
    tier.addAll('a', { start: 0, end: 10 });
    tier.addAll('b', { start: 0, end: 10 });
    const pin = (kind: Kind, i: number) => tier.residents.pin([single(kind, i).key], { ttlMs: 5 });
    assert.deepEqual(
      [0, 1, 2, 3, 4, 5].map((i) => pin('b', i)),
      ['pinned', 'pinned', 'pinned', 'pinned', 'pinned', 'over budget'],
    );
    assert.equal(pin('a', 0), 'pinned');
    tier.residents.audit();
  });
});

/** Requests over few names and many, in an order that always is the same. */
function requests(count: number): Named[] {
  let state = 1;
  return Array.from({ length: count }, () => {
    state = (state * 48_271) % 2_147_483_647;
    return single('a', state % (state % 3 === 0 ? 40 : 400));
  });
}

suite('one class', () => {
  for (const name of POLICY_NAMES) {
    test(`${name}: with nothing of the other class in a tier, its share changes no eviction`, () => {
      const [divided, undivided] = [sharesOf(0.25), undefined].map((shares) => {
        const tier = new Tier({ capacity: 64, policy: name, ...(shares && { shares }) });
        for (const chunk of requests(20_000)) tier.ask(chunk);
        return tier.order;
      });
      assert(divided!.length > 5000);
      assert.deepEqual(divided, undivided);
    });
  }
});
