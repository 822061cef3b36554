/** Rows, past, tiles, and invariant B4 of their masks. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  attends,
  type BlendTile,
  layoutSegments,
  MASKED,
  planBlend,
  positionMask,
  reusedTokens,
  SELECTORS,
} from '#blend';
import { layoutArbitrary, ratioArbitrary } from './arbitrary.js';
import { bottomRightMask } from './bottom-right.js';
import { choose } from './selecting.js';

const planArbitrary = fc
  .record({
    layout: layoutArbitrary,
    ratio: ratioArbitrary,
    seed: fc.nat(),
    tileRows: fc.integer({ min: 1, max: 9 }),
  })
  .map(({ layout, ratio, seed, tileRows }) => {
    const chosen = choose(SELECTORS.random({ seed }), layout, ratio);
    return { layout, chosen, tileRows, plan: planBlend(layout, chosen, { tileRows }) };
  });

/** Asserts that every row of a tile sees each position up to its own once, and no other. */
function assertSeesAllBefore(tile: BlendTile, mask: Float32Array): void {
  for (const [i, row] of tile.rows.entries()) {
    const seen = tile.keys.filter((_, j) => mask[i * tile.keys.length + j] === 0);
    assert.deepEqual(
      [...seen].sort((a, b) => a - b),
      Array.from({ length: row + 1 }, (_, position) => position),
    );
  }
}

describe('a plan', () => {
  test('computes the chosen and the new tokens and reads all others', () => {
    fc.assert(
      fc.property(planArbitrary, ({ layout, chosen, plan }) => {
        const isNew = (position: number) =>
          layout.newSpans.some(({ start, end }) => start <= position && position < end);
        const positions = Array.from({ length: layout.promptTokens }, (_, position) => position);
        const computed = (position: number) => isNew(position) || chosen.includes(position);
        assert.deepEqual([...plan.rows], positions.filter(computed));
        assert.deepEqual(
          plan.tiles.flatMap(({ past }) => [...past]),
          positions.filter((position) => !computed(position)),
        );
      }),
    );
  });

  test('cuts the rows into as few tiles as can be, whose sizes differ by one at most', () => {
    fc.assert(
      fc.property(planArbitrary, ({ tileRows, plan }) => {
        assert.deepEqual(
          plan.tiles.flatMap(({ rows }) => [...rows]),
          [...plan.rows],
        );
        assert.equal(plan.tiles.length, Math.ceil(plan.rows.length / tileRows));
        const sizes = plan.tiles.map(({ rows }) => rows.length);
        assert.ok(Math.max(...sizes) <= tileRows && Math.max(...sizes) - Math.min(...sizes) <= 1);
      }),
    );
  });

  test('gives a tile what those before had, and up to its last row its own, as keys', () => {
    fc.assert(
      fc.property(planArbitrary, ({ plan }) => {
        const before: number[] = [];
        for (const { past, rows, keys } of plan.tiles) {
          before.push(...past, ...rows);
          assert.deepEqual([...keys], before);
          assert.equal(Math.max(...keys), rows.at(-1));
        }
      }),
    );
  });

  test('refuses chosen tokens that are not reused, out of order, or there twice', () => {
    const layout = layoutSegments({
      promptTokens: 10,
      prefixTokens: 2,
      segments: [{ start: 3, end: 7, storedStart: 0 }],
    });
    for (const chosen of [[0], [2], [9], [12], [5, 4], [4, 4], [-1]]) {
      const refused = () => planBlend(layout, Int32Array.from(chosen), { tileRows: 8 });
      assert.throws(refused, assert.AssertionError);
    }
    const none = () => planBlend(layout, new Int32Array(), { tileRows: 0 });
    assert.throws(none, assert.AssertionError);
  });
});

describe('the mask (B4)', () => {
  test('shows every row each position up to its own once, and no later one', () => {
    fc.assert(
      fc.property(planArbitrary, ({ plan }) => {
        for (const tile of plan.tiles) assertSeesAllBefore(tile, positionMask(tile.rows, tile.keys));
      }),
    );
  });

  test('to feed a graph with is the predicate, key by key', () => {
    const positions = fc.array(fc.nat(20), { maxLength: 8 }).map((drawn) => Int32Array.from(drawn));
    fc.assert(
      fc.property(positions, positions, (rows, keys) => {
        const expected = [...rows].flatMap((row) => [...keys].map((key) => (attends(row, key) ? 0 : MASKED)));
        assert.deepEqual([...positionMask(rows, keys)], expected);
      }),
    );
  });

  test('weighs what it hides with nothing, whatever the score, in float32', () => {
    for (const hidden of [-1e4, 0, 1e4]) assert.equal(Math.fround(Math.exp(Math.fround(hidden + MASKED))), 0);
  });

  test('is not aligned to the bottom right: that shows recomputed rows the future', () => {
    const layout = layoutSegments({
      promptTokens: 12,
      prefixTokens: 2,
      segments: [{ start: 3, end: 10, storedStart: 0 }],
    });
    const planOf = (...chosen: number[]) => planBlend(layout, Int32Array.from(chosen), { tileRows: 64 });
    const scattered = planOf(4, 7).tiles[0]!;
    assertSeesAllBefore(scattered, positionMask(scattered.rows, scattered.keys));
    assert.throws(() => assertSeesAllBefore(scattered, bottomRightMask(scattered)), assert.AssertionError);
    // A contiguous suffix can't tell the two apart.
    const suffix = planOf(...reusedTokens(layout).positions).tiles[0]!;
    assert.deepEqual(bottomRightMask(suffix), positionMask(suffix.rows, suffix.keys));
  });
});
