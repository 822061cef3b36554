/** ShadowTier: the names that a tier would hold. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Shadowed, ShadowPlace, ShadowTier } from '../../storage/policy/shadow-tier.js';

class Named implements Shadowed<Named> {
  readonly bytes = 1;
  readonly shadow = new ShadowPlace<Named>(this);
  readonly parent: Named | undefined;
  rank: number;

  constructor(rank: number, parent?: Named) {
    this.rank = rank;
    this.parent = parent;
  }
}

const tierOf = (capacityBytes: number) =>
  new ShadowTier<Named>({ capacityBytes: () => capacityBytes, rank: ({ rank }) => rank });

test('the lowest rank makes room, but never the chunk that is just used', () => {
  const tier = tierOf(2);
  const [low, high, lowest] = [new Named(1), new Named(2), new Named(0)];
  assert.deepEqual(
    [low, high, lowest].map((each) => tier.use(each)),
    [false, false, false],
  );
  assert.deepEqual(
    [lowest, high, low].map((each) => tier.use(each)),
    [true, true, false],
  );
});

test('a chunk goes before the one it follows, whatever their ranks', () => {
  const tier = tierOf(2);
  const parent = new Named(0);
  const child = new Named(9, parent);
  for (const each of [parent, child, new Named(5)]) tier.use(each);
  assert.deepEqual([parent.shadow.isIn, child.shadow.isIn], [true, false]);
});

test('ranks that changed count once it is told', () => {
  const tier = tierOf(2);
  const [a, b] = [new Named(1), new Named(2)];
  tier.use(a);
  tier.use(b);
  a.rank = 3;
  tier.movedAll();
  tier.use(new Named(9));
  assert.deepEqual([a.shadow.isIn, b.shadow.isIn], [true, false]);
});
