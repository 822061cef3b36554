/** Invariant B1: what a blend computes, on a small random transformer with RoPE, beside full prefill and plain reuse. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { layoutSegments, type RopeSpec, reusedTokens, SELECTORS, tokenDeviations } from '#blend';
import { seededRandom } from '../../src/engine/random.js';
import { layoutArbitrary, promptArbitrary, ratioArbitrary } from './arbitrary.js';
import { bottomRightMask } from './bottom-right.js';
import { choose } from './selecting.js';
import { blend, cachedKv, poisoned } from './toy-blend.js';
import { concat, gather, ROW_WIDTH, ToyTransformer } from './toy-transformer.js';

const ropes: readonly RopeSpec[] = [
  { theta: 100, interleaved: false },
  { theta: 100, interleaved: true, scaling: { type: 'linear', factor: 4 } },
];
const models = ropes.map((rope, seed) => new ToyTransformer(seed, rope));
const modelArbitrary = fc.constantFrom(...models);

/** K and V are float32, logits reach about 10. */
const TOLERANCE = 1e-4;
/** Each runs a transformer in plain arithmetic. */
const FEW = { numRuns: 25 };

const VOCAB = 13;
const tokensOf = (seed: number, count: number): number[] => {
  const random = seededRandom(seed);
  return Array.from({ length: count }, () => Math.floor(random() * VOCAB));
};

function furthest(actual: Iterable<number>, expected: Iterable<number>): number {
  const [a, b] = [[...actual], [...expected]];
  assert.equal(a.length, b.length);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}

/** The largest difference of the logits at some positions, given by two computations that hold them by row. */
const logitsApart = (
  actual: readonly (readonly number[])[],
  expected: readonly (readonly number[])[],
  rows: Int32Array,
): number =>
  furthest(
    actual.flat(),
    [...rows].flatMap((position) => expected[position]!),
  );

describe('a blend (B1)', () => {
  test('that recomputes all equals the full prefill', () => {
    fc.assert(
      fc.property(modelArbitrary, layoutArbitrary, fc.nat(), (model, layout, seed) => {
        const tokens = tokensOf(seed, layout.promptTokens);
        const cached = cachedKv(model, tokens, layout);
        const chosen = choose(SELECTORS.hybrid(), layout, 1);
        const { rows, logits } = blend(model, { tokens, layout, cached }, chosen);
        assert.ok(logitsApart(logits, model.prefillAll(tokens).logits, rows) < TOLERANCE);
      }),
      FEW,
    );
  });

  test('that recomputes nothing equals plain reuse, token by token', () => {
    fc.assert(
      fc.property(modelArbitrary, layoutArbitrary, fc.nat(), (model, layout, seed) => {
        const tokens = tokensOf(seed, layout.promptTokens);
        const cached = cachedKv(model, tokens, layout);
        const { rows, logits } = blend(
          model,
          { tokens, layout, cached },
          choose(SELECTORS.hybrid(), layout, 0),
        );
        let before = gather(cached, new Int32Array());
        const expected = tokens.map((token, position) => {
          const row = { tokens: [token], positions: Int32Array.of(position), past: before };
          const computed = model.prefill(row, () => true);
          const kept = rows.includes(position) ? computed.kv : gather(cached, Int32Array.of(position));
          before = concat(before, kept);
          return computed.logits[0]!;
        });
        assert.ok(logitsApart(logits, expected, rows) < TOLERANCE);
      }),
      FEW,
    );
  });

  test('that reuses only the first segment equals the full prefill', () => {
    fc.assert(
      fc.property(modelArbitrary, promptArbitrary, fc.nat(), (model, prompt, seed) => {
        const end = Math.min(5, prompt.promptTokens);
        const segments = [{ start: 0, end, storedStart: 0 }];
        const layout = layoutSegments({ promptTokens: prompt.promptTokens, prefixTokens: 0, segments });
        const tokens = tokensOf(seed, layout.promptTokens);
        const cached = cachedKv(model, tokens, layout);
        const { rows, logits } = blend(model, { tokens, layout, cached }, new Int32Array());
        assert.ok(logitsApart(logits, model.prefillAll(tokens).logits, rows) < TOLERANCE);
      }),
      FEW,
    );
  });

  test('of scattered rows equals the full prefill, whatever their stale copies and the tiles are', () => {
    fc.assert(
      fc.property(
        modelArbitrary,
        layoutArbitrary,
        ratioArbitrary,
        fc.nat(),
        fc.integer({ min: 1, max: 9 }),
        (model, layout, ratio, seed, tileRows) => {
          const tokens = tokensOf(seed, layout.promptTokens);
          const full = model.prefillAll(tokens);
          const chosen = choose(SELECTORS.random({ seed }), layout, ratio);
          const cached = poisoned(full.kv, chosen);
          const { rows, logits, kv } = blend(model, { tokens, layout, cached }, chosen, { tileRows });
          assert.ok(logitsApart(logits, full.logits, rows) < TOLERANCE);
          const expected = gather(full.kv, rows);
          for (const [l, keys] of kv.keys.entries()) {
            assert.ok(furthest(keys, expected.keys[l]!) < TOLERANCE);
            assert.ok(furthest(kv.values[l]!, expected.values[l]!) < TOLERANCE);
          }
        },
      ),
      FEW,
    );
  });

  test('under the bottom-right mask of the reference implementations does not', () => {
    const layout = layoutSegments({
      promptTokens: 16,
      prefixTokens: 2,
      segments: [{ start: 2, end: 14, storedStart: 0 }],
    });
    const chosen = Int32Array.of(3, 6, 9);
    for (const [seed, model] of models.entries()) {
      const tokens = tokensOf(seed, layout.promptTokens);
      const full = model.prefillAll(tokens);
      const prompt = { tokens, layout, cached: poisoned(full.kv, chosen) };
      const right = blend(model, prompt, chosen, { tileRows: 16 });
      const wrong = blend(model, prompt, chosen, { tileRows: 16, maskOf: bottomRightMask });
      assert.ok(logitsApart(right.logits, full.logits, right.rows) < TOLERANCE);
      assert.ok(logitsApart(wrong.logits, full.logits, wrong.rows) > 0.1);
    }
  });

  test('of a segment with nothing before it is exact, wherever it was computed', () => {
    fc.assert(
      fc.property(modelArbitrary, fc.nat(), fc.integer({ min: 0, max: 500 }), (model, seed, storedStart) => {
        const tokens = tokensOf(seed, 12);
        const { keys, values } = model.prefillAll(tokens, storedStart).kv;
        const moved = { keys: keys.map((rows) => model.rotate(rows, -storedStart)), values };
        const expected = model.prefillAll(tokens).kv;
        for (const [l, rows] of moved.keys.entries()) {
          assert.ok(furthest(rows, expected.keys[l]!) < TOLERANCE);
          assert.ok(furthest(values[l]!, expected.values[l]!) < TOLERANCE);
        }
      }),
      FEW,
    );
  });
});

describe('deviation', () => {
  test('of a moved segment is none in the first layer, and tells from the second on', () => {
    const layout = layoutSegments({
      promptTokens: 14,
      prefixTokens: 4,
      segments: [{ start: 4, end: 12, storedStart: 3 }],
    });
    const { positions } = reusedTokens(layout);
    for (const [seed, model] of models.entries()) {
      const tokens = tokensOf(seed, layout.promptTokens);
      const fresh = gather(model.prefillAll(tokens).kv, positions);
      const cached = gather(cachedKv(model, tokens, layout), positions);
      for (const of of ['keys', 'values'] as const) {
        const [first, second] = [0, 1].map((l) =>
          tokenDeviations(fresh[of][l]!, cached[of][l]!, { rowWidth: ROW_WIDTH }),
        );
        assert.ok(first!.every((deviation) => deviation < 1e-5));
        assert.ok(second!.every((deviation) => deviation > 1e-2));
      }
    }
  });
});
