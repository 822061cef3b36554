import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bucketOf, Histogram, observed, quantile } from '../src/histogram.js';

const BOUNDS = [1, 2, 5, 10];

test('a value counts in the bucket of the first bound that is not below it', () => {
  const histogram = new Histogram(BOUNDS);
  for (const value of [0, 1, 1.5, 2, 2.1, 10, 11]) histogram.observe(value);
  assert.deepEqual(histogram.reading(), { bounds: BOUNDS, counts: [2, 2, 1, 1, 1], sum: 27.6 });
});

test('a quantile lies in the bucket of the value that has its rank, and is not known without values', () => {
  assert.equal(quantile(new Histogram(BOUNDS).reading(), 0.5), undefined);
  const values = fc.array(fc.double({ min: 0, max: 20, noNaN: true }), { minLength: 1, maxLength: 50 });
  fc.assert(
    fc.property(values, fc.double({ min: 0.01, max: 1, noNaN: true }), (all, share) => {
      const histogram = new Histogram(BOUNDS);
      for (const value of all) histogram.observe(value);
      const reading = histogram.reading();
      assert.equal(observed(reading), all.length);
      const sorted = all.toSorted((a, b) => a - b);
      const exact = sorted[Math.ceil(share * all.length) - 1]!;
      const found = quantile(reading, share)!;
      const bucket = bucketOf(BOUNDS, exact);
      const [from, to] = [BOUNDS[bucket - 1] ?? 0, BOUNDS[bucket] ?? BOUNDS.at(-1)!];
      assert(found >= Math.min(from, to) && found <= to, `${found} for ${exact} of ${sorted.join()}`);
    }),
  );
});
