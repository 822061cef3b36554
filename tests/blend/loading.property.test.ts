/** The recompute ratio that loading hides. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { hiddenRatio } from '#blend';

const ms = fc.double({ min: 1e-3, max: 1e3, noNaN: true });
const ratio = fc.double({ min: 0, max: 1, noNaN: true });

test('recomputation above the least ratio is hidden: it takes no longer than loading', () => {
  fc.assert(
    fc.property(ms, ms, ratio, (loadMsPerToken, recomputeMsPerToken, ratioMin) => {
      const chosen = hiddenRatio({ loadMsPerToken, recomputeMsPerToken, ratioMin });
      assert.ok(chosen >= ratioMin && chosen <= 1);
      if (chosen > ratioMin) assert.ok(chosen * recomputeMsPerToken <= loadMsPerToken * (1 + 1e-12));
    }),
  );
});

test('no higher ratio would be hidden', () => {
  fc.assert(
    fc.property(ms, ms, ratio, (loadMsPerToken, recomputeMsPerToken, ratioMin) => {
      const chosen = hiddenRatio({ loadMsPerToken, recomputeMsPerToken, ratioMin });
      if (chosen < 1) assert.ok((chosen + 1e-9) * recomputeMsPerToken > loadMsPerToken * (1 - 1e-12));
    }),
  );
});

const ratioOf = (loadMsPerToken: number, recomputeMsPerToken: number) =>
  hiddenRatio({ loadMsPerToken, recomputeMsPerToken, ratioMin: 0.15 });

test('the ratio is that of the times, at least r*, at most all', () => {
  assert.equal(ratioOf(1, 4), 0.25);
  assert.equal(ratioOf(0, 4), 0.15);
  assert.equal(ratioOf(9, 4), 1);
  assert.equal(ratioOf(0, 0), 1);
  assert.throws(() => ratioOf(-1, 4), assert.AssertionError);
  assert.throws(() => ratioOf(1, Number.NaN), assert.AssertionError);
});
