import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bootstrap, earlierShare, median, pairedRatio, spread } from '../../bench/statistics.js';

test('the median is the middle value, whatever the order', () => {
  assert.equal(median([9, 1, 5]), 5);
  assert.equal(median([10, 9, 100]), 10);
});

test('the median of an even count is the mean of the middle two', () => {
  assert.equal(median([4, 1, 3, 100]), 3.5);
});

test('the median leaves its input as it was', () => {
  const values = [3, 1, 2];
  median(values);
  assert.deepEqual(values, [3, 1, 2]);
});

test('the median of nothing is a programmer error', () => {
  assert.throws(() => median([]));
});

test('a spread has the extremes beside the median', () => {
  assert.deepEqual(spread([2, 8, 4]), { median: 4, min: 2, max: 8 });
});

test('a ratio is taken round by round, so that a slow round of both changes nothing', () => {
  assert.deepEqual(pairedRatio([2, 20, 2], [1, 10, 1]), { median: 2, min: 2, max: 2 });
  assert.deepEqual(pairedRatio([1, 3, 4], [2, 1, 2]), { median: 2, min: 0.5, max: 3 });
});

test('rounds that do not pair up are a programmer error', () => {
  assert.throws(() => pairedRatio([1, 2], [1]));
});

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

test('a bootstrap interval holds the mean, is narrow where samples agree, and is the same each time', () => {
  const samples = Array.from({ length: 40 }, (_, i) => i % 10);
  const [low, high] = bootstrap(samples, mean);
  assert.ok(low > 3 && low < 4.5 && high > 4.5 && high < 6, `${low} to ${high}`);
  assert.deepEqual(bootstrap(samples, mean), [low, high]);
  assert.deepEqual(bootstrap([5, 5, 5], mean), [5, 5]);
});

test('the share of earlier ones is half for equal samples, and all or nothing for those apart', () => {
  assert.equal(earlierShare([1, 2, 3], [1, 2, 3]), 0.5);
  assert.equal(earlierShare([5, 5], [5, 5]), 0.5);
  assert.equal(earlierShare([1, 2], [3, 4, 5]), 1);
  assert.equal(earlierShare([3, 4, 5], [1, 2]), 0);
  assert.equal(earlierShare([1, 4], [2, 3]), 0.5);
});
