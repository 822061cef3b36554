/** Space-Saving against exact sums: how much it may be wrong, and that the heaviest are never missed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { HeavyHitters } from '../../src/serving/heavy-hitters.js';

const added = fc.array(
  fc.record({ key: fc.constantFrom(...'abcdefghij'.split('')), weight: fc.integer({ min: 1, max: 20 }) }),
  { maxLength: 200 },
);

function exact(all: readonly { readonly key: string; readonly weight: number }[]): Map<string, number> {
  const sums = new Map<string, number>();
  for (const { key, weight } of all) sums.set(key, (sums.get(key) ?? 0) + weight);
  return sums;
}

test('weights are exact while there is room for every key', () => {
  fc.assert(
    fc.property(added, (all) => {
      const hitters = new HeavyHitters<string>({ keysMax: 10 });
      for (const [atMs, { key, weight }] of all.entries()) hitters.add(key, weight, { atMs, detail: key });
      const top = hitters.top(10, () => true);
      assert.deepEqual(new Map(top.map(({ detail, weight }) => [detail, weight])), exact(all));
      for (const { detail, errorMax, hits, lastMs } of top) {
        const own = all.flatMap(({ key }, i) => (key === detail ? i : []));
        assert.deepEqual([errorMax, hits, lastMs], [0, own.length, own.at(-1)]);
      }
    }),
  );
});

test('with fewer places no weight is too small, none too large by more than it says, and no heavy key is missed', () => {
  fc.assert(
    fc.property(added, fc.integer({ min: 1, max: 5 }), (all, keysMax) => {
      const hitters = new HeavyHitters<string>({ keysMax });
      for (const [atMs, { key, weight }] of all.entries()) hitters.add(key, weight, { atMs, detail: key });
      const top = hitters.top(keysMax, () => true);
      const sums = exact(all);
      const total = [...sums.values()].reduce((sum, each) => sum + each, 0);
      for (const { detail, weight, errorMax } of top) {
        const own = sums.get(detail)!;
        assert(weight >= own && weight - errorMax <= own, detail);
      }
      const kept = new Set(top.map(({ detail }) => detail));
      for (const [key, weight] of sums) if (weight > total / keysMax) assert(kept.has(key), key);
      assert(top.every(({ weight }, i) => i === 0 || weight <= top[i - 1]!.weight));
    }),
  );
});

test('only wanted keys are listed', () => {
  const hitters = new HeavyHitters<string>({ keysMax: 3 });
  for (const [key, weight] of [
    ['a', 3],
    ['b', 2],
    ['c', 1],
  ] as const)
    hitters.add(key, weight, { atMs: 0, detail: key });
  assert.deepEqual(
    hitters.top(1, (key) => key !== 'a').map(({ detail }) => detail),
    ['b'],
  );
});
