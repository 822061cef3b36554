/** KV deviation of tokens. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ropeFrequencies, rotateKeys, tokenDeviations } from '#blend';

const ROW_WIDTH = 8;
const rowsArbitrary = fc
  .array(fc.float({ min: -64, max: 64, noNaN: true }), { minLength: 4 * ROW_WIDTH, maxLength: 4 * ROW_WIDTH })
  .map((values) => Float32Array.from(values));

const rowOf = (rows: Float32Array, token: number) =>
  [...rows].slice(token * ROW_WIDTH, (token + 1) * ROW_WIDTH);

function assertClose(actual: number, expected: number, tolerance: number): void {
  assert.ok(Math.abs(actual - expected) <= tolerance, `${actual} ≠ ${expected}`);
}

test('a deviation is the L2 distance of a token’s rows over all heads', () => {
  fc.assert(
    fc.property(rowsArbitrary, rowsArbitrary, (fresh, cached) => {
      const deviations = tokenDeviations(fresh, cached, { rowWidth: ROW_WIDTH });
      assert.equal(deviations.length, 4);
      for (const [token, deviation] of deviations.entries()) {
        const other = rowOf(cached, token);
        const distance = Math.hypot(...rowOf(fresh, token).map((value, i) => value - other[i]!));
        assertClose(deviation, distance, distance * 1e-12);
      }
    }),
  );
});

test('a relative deviation is that over the norm of the fresh row', () => {
  fc.assert(
    fc.property(rowsArbitrary, rowsArbitrary, (fresh, cached) => {
      const absolute = tokenDeviations(fresh, cached, { rowWidth: ROW_WIDTH });
      const relative = tokenDeviations(fresh, cached, { rowWidth: ROW_WIDTH, relative: true });
      for (const [token, deviation] of relative.entries()) {
        const norm = Math.hypot(...rowOf(fresh, token));
        if (norm > 0) assertClose(deviation * norm, absolute[token]!, absolute[token]! * 1e-12);
      }
    }),
  );
  const zero = new Float32Array(2);
  const options = { rowWidth: 2, relative: true };
  assert.deepEqual([...tokenDeviations(zero, zero, options)], [0]);
  assert.deepEqual([...tokenDeviations(zero, Float32Array.of(1, 0), options)], [Infinity]);
});

test('equal rows deviate by 0, and both metrics are the same either way round or rotated', () => {
  const frequencies = ropeFrequencies({ theta: 100, interleaved: false }, ROW_WIDTH);
  fc.assert(
    fc.property(rowsArbitrary, rowsArbitrary, fc.integer({ min: -999, max: 999 }), (a, b, positions) => {
      const options = { rowWidth: ROW_WIDTH };
      assert.deepEqual(tokenDeviations(a, a, options), new Float64Array(4));
      const deviations = tokenDeviations(a, b, options);
      assert.deepEqual(tokenDeviations(b, a, options), deviations);
      const move = (rows: Float32Array) => rotateKeys(rows, { positions, frequencies, interleaved: false });
      for (const [token, moved] of tokenDeviations(move(a), move(b), options).entries())
        assertClose(moved, deviations[token]!, 1e-4);
    }),
  );
});

test('rows of other shapes are refused', () => {
  const options = { rowWidth: 4 };
  const refused = (fresh: number, cached: number) =>
    assert.throws(
      () => tokenDeviations(new Float32Array(fresh), new Float32Array(cached), options),
      assert.AssertionError,
    );
  refused(8, 4);
  refused(6, 6);
});
