/** Invariant B2, and what each selector prefers. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  layoutSegments,
  type Measurement,
  type ReusedTokens,
  recomputeTokens,
  reusedTokens,
  SELECTORS,
  type SelectorName,
} from '#blend';
import { layoutArbitrary, ratioArbitrary } from './arbitrary.js';
import { choose } from './selecting.js';

const BUDGETED: readonly SelectorName[] = ['hkvd', 'heads', 'question', 'hybrid', 'random'];

/** Scores with many ties, extremes and NaN; one a position, whoever asks. */
const scoresArbitrary = fc.array(
  fc.oneof(fc.integer({ min: 0, max: 3 }), fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY)),
  { minLength: 40, maxLength: 40 },
);
const measured =
  (scores: readonly number[]) =>
  ({ positions }: Measurement) =>
    Array.from(positions, (position) => scores[position]!);

const tokensOf = (positions: number[], offsets = positions.map(() => 0)): ReusedTokens => ({
  positions: Int32Array.from(positions),
  offsets: Int32Array.from(offsets),
});

describe('the chosen tokens (B2)', () => {
  for (const name of BUDGETED) {
    test(`of ${name} ascend, are unique, reused, and exactly ceil(ratio · n)`, () => {
      const options = { checkLayers: [1, 2, 5] };
      fc.assert(
        fc.property(layoutArbitrary, ratioArbitrary, scoresArbitrary, (layout, ratio, scores) => {
          const { positions } = reusedTokens(layout);
          const chosen = choose(SELECTORS[name](options), layout, ratio, measured(scores));
          assert.equal(chosen.length, recomputeTokens(positions.length, ratio));
          for (const [i, position] of chosen.entries()) {
            assert.ok(position > (chosen[i - 1] ?? -1));
            assert.ok(positions.includes(position));
          }
          assert.deepEqual(choose(SELECTORS[name](options), layout, ratio, measured(scores)), chosen);
        }),
      );
    });
  }

  test('are as many as exact arithmetic says', () => {
    fc.assert(
      fc.property(fc.nat(200_000), fc.integer({ min: 1, max: 1000 }), fc.nat(1000), (tokens, of, share) => {
        const parts = share % (of + 1);
        const exact = (BigInt(parts) * BigInt(tokens) + BigInt(of) - 1n) / BigInt(of);
        assert.equal(recomputeTokens(tokens, parts / of), Number(exact));
      }),
    );
    assert.equal(recomputeTokens(100, 0.07), 7);
    assert.throws(() => recomputeTokens(100, 1.01), assert.AssertionError);
    assert.throws(() => recomputeTokens(100, Number.NaN), assert.AssertionError);
  });

  test('are none or all, whatever the ratio, of those that say so', () => {
    fc.assert(
      fc.property(layoutArbitrary, ratioArbitrary, (layout, ratio) => {
        assert.deepEqual(choose(SELECTORS.none(), layout, ratio), new Int32Array());
        assert.deepEqual(choose(SELECTORS.all(), layout, ratio), reusedTokens(layout).positions);
      }),
    );
  });

  test('are not measured when the ratio leaves no choice', () => {
    const layout = layoutSegments({
      promptTokens: 9,
      prefixTokens: 1,
      segments: [{ start: 2, end: 7, storedStart: 0 }],
    });
    for (const selector of Object.values(SELECTORS)) {
      for (const ratio of [0, 1]) choose(selector(), layout, ratio);
    }
  });
});

/** Keeps the best by definition: sorts by score, then by position. */
function best(positions: readonly number[], count: number, scores: readonly number[]): number[] {
  const rank = (position: number) => (Number.isNaN(scores[position]!) ? Infinity : scores[position]!);
  return [...positions]
    .sort((a, b) => (rank(a) === rank(b) ? a - b : rank(b) > rank(a) ? 1 : -1))
    .slice(0, count)
    .sort((a, b) => a - b);
}

describe('selectors', () => {
  test('by score take the highest, of equal ones the first, and what is no number before all', () => {
    fc.assert(
      fc.property(layoutArbitrary, ratioArbitrary, scoresArbitrary, (layout, ratio, scores) => {
        const positions = [...reusedTokens(layout).positions];
        const expected = best(positions, recomputeTokens(positions.length, ratio), scores);
        for (const name of ['hkvd', 'question'] as const)
          assert.deepEqual([...choose(SELECTORS[name](), layout, ratio, measured(scores))], expected);
      }),
    );
  });

  test('ask for what they are told to measure, and nothing else', () => {
    const tokens = tokensOf([4, 5, 6, 7]);
    const asked: Measurement[] = [];
    const note = (measurement: Measurement) => {
      asked.push(measurement);
      return [0, 1, 2, 3].slice(0, measurement.positions.length);
    };
    choose(SELECTORS.hkvd(), tokens, 0.5, note);
    choose(SELECTORS.hkvd({ deviationOf: 'V', relative: true, checkLayers: [3] }), tokens, 0.5, note);
    choose(SELECTORS.question(), tokens, 0.5, note);
    choose(SELECTORS.hybrid(), tokens, 0.5, note);
    choose(SELECTORS.heads(), tokens, 0.5);
    choose(SELECTORS.random(), tokens, 0.5);
    const { positions } = tokens;
    assert.deepEqual(asked, [
      { kind: 'deviation', of: 'K', relative: false, layer: 1, positions },
      { kind: 'deviation', of: 'V', relative: true, layer: 3, positions },
      { kind: 'attention', positions },
      { kind: 'attention', positions },
    ]);
  });

  test('that filter gradually narrow one set, layer by layer, each time to its most deviating', () => {
    fc.assert(
      fc.property(
        layoutArbitrary,
        ratioArbitrary,
        fc.infiniteStream(scoresArbitrary),
        (layout, ratio, all) => {
          const [...scoresOf] = [...all.take(3)];
          const sets: number[][] = [];
          const chosen = choose(SELECTORS.hkvd({ checkLayers: [1, 2, 4] }), layout, ratio, (measurement) => {
            assert.ok(measurement.kind === 'deviation' && measurement.layer === [1, 2, 4][sets.length]);
            sets.push([...measurement.positions]);
            return measured(scoresOf[sets.length - 1]!)(measurement);
          });
          if (sets.length === 0) return;
          sets.push([...chosen]);
          for (const [check, scores] of scoresOf.entries())
            assert.deepEqual(sets[check + 1], best(sets[check]!, sets[check + 1]!.length, scores));
        },
      ),
    );
  });

  test('that filter gradually begin at one and a half times the ratio and end at it', () => {
    const tokens = tokensOf(Array.from({ length: 100 }, (_, i) => i));
    const sizes: number[] = [];
    choose(SELECTORS.hkvd({ checkLayers: [1, 2, 3] }), tokens, 0.2, ({ positions }) => {
      sizes.push(positions.length);
      return positions;
    });
    assert.deepEqual(sizes, [100, 30, 25]);
    for (const checkLayers of [[], [0], [2, 1], [1, 1]])
      assert.throws(() => SELECTORS.hkvd({ checkLayers }), assert.AssertionError);
  });

  test('of heads take the first k of each segment, and of k + 1 the first segments', () => {
    const tokens = tokensOf([3, 4, 5, 6, 10, 11, 12, 13], [0, 1, 2, 3, 0, 1, 2, 3]);
    assert.deepEqual([...choose(SELECTORS.heads(), tokens, 0.5)], [3, 4, 10, 11]);
    assert.deepEqual([...choose(SELECTORS.heads(), tokens, 0.6)], [3, 4, 5, 10, 11]);
  });

  test('of both kinds take heads before what is attended to, and heads by attention if not all can be', () => {
    const tokens = tokensOf([3, 4, 5, 6, 10, 11, 12, 13], [0, 1, 2, 3, 0, 1, 2, 3]);
    const attention = measured([0, 0, 0, 1, 0, 0, 9, 0, 0, 0, 2, 0, 8, 0]);
    const hybrid = SELECTORS.hybrid({ headTokens: 1 });
    assert.deepEqual([...choose(hybrid, tokens, 0.125, attention)], [10]);
    assert.deepEqual([...choose(hybrid, tokens, 0.25, attention)], [3, 10]);
    assert.deepEqual([...choose(hybrid, tokens, 0.5, attention)], [3, 6, 10, 12]);
  });

  test('at random draw by seed, evenly, and keep their choice when the ratio grows', () => {
    const tokens = tokensOf(Array.from({ length: 50 }, (_, i) => i));
    const draws = Array.from({ length: 400 }, (_, seed) => choose(SELECTORS.random({ seed }), tokens, 0.2));
    const chosen = tokens.positions.map((position) => draws.filter((draw) => draw.includes(position)).length);
    // 400 draws of one fifth: 80 times each, standard deviation 8.
    assert.ok(
      chosen.every((times) => times > 40 && times < 120),
      String(chosen),
    );
    assert.ok(new Set(draws.map(String)).size === draws.length);
    const more = choose(SELECTORS.random({ seed: 7 }), tokens, 0.6);
    assert.ok(draws[7]!.every((position) => more.includes(position)));
  });

  test('refuse measurements that are not one a token', () => {
    const tokens = tokensOf([4, 5, 6, 7]);
    assert.throws(() => choose(SELECTORS.question(), tokens, 0.5, () => [1]), assert.AssertionError);
  });
});
