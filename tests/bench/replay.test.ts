/** The trace replayer, on traces small enough to be followed by hand; and how the default policy does on others. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { belady, hitRate, replay } from '../../bench/replay.js';
import { TRAFFIC_KINDS, traffic } from '../../bench/traffic.js';

const requests = (...paths: readonly (readonly number[])[]) => paths.map((path) => Int32Array.from(path));
const lru = (capacityBlocks: number, paths: ReturnType<typeof requests>) =>
  replay(paths, { policy: 'lru', capacityBlocks });

test('a block hits while the prefix is unbroken, and the halves add up', () => {
  const paths = requests([1, 2, 3], [1, 2, 4], [5, 2, 3], [1, 2, 3]);
  assert.deepEqual(lru(9, paths), [
    { hits: 2, blocks: 6 },
    { hits: 3, blocks: 6 },
  ]);
  assert.equal(hitRate(...lru(9, paths)), 5 / 12);
});

test('who knows the future keeps what is used soonest, and takes in nothing else', () => {
  const paths = requests([1], [2], [3], [1], [2], [3]);
  assert.equal(hitRate(...lru(2, paths)), 0);
  assert.equal(belady(paths, 2), 2 / 6);
  assert.equal(belady(paths, 3), 3 / 6);
  assert.equal(belady(requests([1, 2], [3, 4], [1, 2]), 1), 1 / 6);
});

test('the same seed gives the same traffic, another one other traffic', () => {
  for (const kind of ['documents, Zipf', 'agents, shared prompts']) {
    const [a, b, other] = [7, 7, 8].map((seed) => traffic(kind, { count: 50, seed }));
    assert.deepEqual(a, b);
    assert.notDeepEqual(a, other);
  }
});

suite('the adaptive policy is at most 1 % below LRU', () => {
  for (const kind of TRAFFIC_KINDS) {
    test(`on ${kind}`, () => {
      const paths = traffic(kind, { count: 1000, seed: 1 });
      for (const capacityBlocks of [60, 400]) {
        const [adaptive, least] = (['adaptive', 'lru'] as const).map((policy) =>
          hitRate(...replay(paths, { policy, capacityBlocks })),
        );
        assert(adaptive! >= 0.99 * least!, `${adaptive} at ${capacityBlocks} blocks, LRU has ${least}`);
      }
    });
  }
});

suite('the adaptive policy is well above LRU', () => {
  for (const kind of ['documents, Zipf', 'documents among one-shot prompts', 'single blocks, Zipf']) {
    test(`on ${kind}`, () => {
      const paths = traffic(kind, { count: 1000, seed: 1 });
      const rate = (policy: 'adaptive' | 'lru') => hitRate(...replay(paths, { policy, capacityBlocks: 400 }));
      assert(rate('adaptive') >= 1.1 * rate('lru'));
    });
  }
});
