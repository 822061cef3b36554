/** Owners with quotas in one tier: who takes too much gives up its own, and nobody else's, whatever the policy. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { type ChunkKey, chunkKey, type EvictReason, POLICY_NAMES, type PolicyName } from '#storage';
import { Residents } from '../../storage/residents.js';
import { ManualClock } from '../support/manual-clock.js';

const OWNERS = ['a', 'b', 'c'] as const;
type Owner = (typeof OWNERS)[number];
const KINDS = ['prompt', 'passage'] as const;

interface Named {
  readonly key: ChunkKey;
  readonly parent: ChunkKey | undefined;
  readonly namespace: string;
}

/** Of each namespace: chunk i stands after chunk ⌊(i - 1) / 2⌋. */
const TREES = new Map(
  OWNERS.flatMap((owner) => KINDS.map((kind) => `${kind}:${owner}`)).map((namespace) => {
    const chunks: Named[] = [];
    for (let i = 0; i < 10; i++) {
      const parent = i === 0 ? undefined : chunks[(i - 1) >> 1]!.key;
      const key = chunkKey({ fingerprint: 'test', salt: namespace, parent, tokens: Int32Array.of(i) });
      chunks.push({ key, parent, namespace });
    }
    return [namespace, chunks];
  }),
);

const ownerOf = (namespace: string): string => namespace.split(':')[1]!;

interface Departure {
  readonly owner: string;
  readonly reason: EvictReason;
}

function tierOf(policy: PolicyName, capacityBytes = 24) {
  const left: Departure[] = [];
  const clock = new ManualClock(0);
  const residents = new Residents<string>({
    capacityBytes,
    policy,
    clock,
    ownerOf,
    shares: { of: { prompt: 0.5, passage: 0.5 }, classOf: (namespace) => namespace.split(':')[0]! },
    onLeave: ({ data }, reason) => left.push({ owner: ownerOf(data), reason }),
    onFree: () => {},
  });
  const bytes = (owner: string) => residents.owners().get(owner)?.bytes ?? 0;
  const add = ({ key, parent, namespace }: Named, size: number): void => {
    if (residents.isTaken(key)) return;
    const added = residents.add({ key, parent, namespace, bytes: size, data: namespace });
    if (added !== undefined) residents.commit(key);
  };
  return { residents, left, clock, bytes, add };
}

/** A chunk at position 0, by number. */
function single(owner: Owner, i: number): Named {
  const namespace = `prompt:${owner}`;
  const key = chunkKey({ fingerprint: 'test', salt: owner, parent: undefined, tokens: Int32Array.of(i) });
  return { key, parent: undefined, namespace };
}

const policy = fc.constantFrom(...POLICY_NAMES);
const quotas = fc.dictionary(fc.constantFrom(...OWNERS), fc.integer({ min: 0, max: 14 }));
const step = fc.record({
  do: fc.constantFrom(
    'add',
    'add',
    'add',
    'add',
    'touch',
    'lease',
    'release',
    'pin',
    'unpin',
    'remove',
    'clock',
  ),
  namespace: fc.constantFrom(...TREES.keys()),
  i: fc.nat(9),
  bytes: fc.integer({ min: 1, max: 3 }),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function run(
  tier: ReturnType<typeof tierOf>,
  { do: call, namespace, i, bytes }: Step,
  leases: ChunkKey[],
): void {
  const { residents, clock } = tier;
  const chunk = TREES.get(namespace)![i]!;
  const { key } = chunk;
  if (call === 'add') tier.add(chunk, bytes);
  else if (call === 'touch') residents.touch([key]);
  else if (call === 'lease' && residents.lease(key)) leases.push(key);
  else if (call === 'release' && leases.length > 0)
    residents.release(leases.splice(i % leases.length, 1)[0]!);
  else if (call === 'pin') residents.pin([key], { ttlMs: 3 });
  else if (call === 'unpin') residents.unpin([key]);
  else if (call === 'remove') residents.remove(key, 'deleted');
  else if (call === 'clock') clock.nowMs += bytes;
}

suite('quotas', () => {
  test('hold after every step, evict chunks of their owner only, and every counter equals a recount', () => {
    fc.assert(
      fc.property(policy, quotas, fc.array(step, { maxLength: 150 }), (name, limits, steps) => {
        const tier = tierOf(name);
        tier.residents.setQuotas(new Map(Object.entries(limits)));
        const leases: ChunkKey[] = [];
        for (const each of steps) {
          const before = tier.left.length;
          run(tier, each, leases);
          tier.residents.audit();
          for (const owner of OWNERS) assert(tier.bytes(owner) <= (limits[owner] ?? Infinity));
          for (const { owner, reason } of tier.left.slice(before)) {
            if (reason === 'quota') assert.equal(owner, ownerOf(each.namespace));
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  test('that change hold as soon as what is held is let go, and lifted ones are forgotten', () => {
    fc.assert(
      fc.property(
        policy,
        fc.array(fc.tuple(quotas, fc.array(step, { maxLength: 40 })), { maxLength: 5 }),
        (name, rounds) => {
          const tier = tierOf(name);
          const leases: ChunkKey[] = [];
          for (const [limits, steps] of rounds) {
            tier.residents.setQuotas(new Map(Object.entries(limits)));
            tier.residents.audit();
            for (const each of steps) {
              run(tier, each, leases);
              tier.residents.audit();
            }
            for (const key of leases.splice(0)) tier.residents.release(key);
            tier.clock.nowMs += 10;
            tier.residents.expire();
            for (const owner of OWNERS) assert(tier.bytes(owner) <= (limits[owner] ?? Infinity));
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  for (const name of POLICY_NAMES) {
    test(`${name}: who has none loses nothing to one, and an owner with one keeps what it would keep alone`, () => {
      const [shared, alone] = [tierOf(name, 1000), tierOf(name, 1000)];
      for (const tier of [shared, alone]) tier.residents.setQuotas(new Map([['a', 20]]));
      for (let i = 0; i < 50; i++) shared.add(single('b', i), 1);
      for (let i = 0; i < 200; i++) for (const tier of [shared, alone]) tier.add(single('a', i % 60), 1);
      assert.deepEqual([shared.bytes('a'), shared.bytes('b'), alone.bytes('a')], [20, 50, 20]);
      assert(shared.left.every(({ owner, reason }) => owner === 'a' && reason === 'quota'));
      assert.equal(shared.left.length > 30, true);
    });
  }

  test('leave pins their part, so that nobody wedges what he has', () => {
    const tier = tierOf('lru', 100);
    tier.residents.setQuotas(new Map([['a', 8]]));
    const chunks = TREES.get('prompt:a')!;
    for (const chunk of chunks.slice(0, 3)) tier.add(chunk, 2);
    const pin = (i: number) => tier.residents.pin([chunks[i]!.key], { ttlMs: 10 });
    assert.deepEqual([pin(0), pin(1), pin(2)], ['pinned', 'pinned', 'over budget']);
  });
});
