/** Medians and ratios of few, noisy samples. Pure. */
import assert from 'node:assert/strict';

export { bootstrap } from '../src/calibration/bootstrap.js';

/** Middle value, or the mean of the middle two. */
export function median(values: readonly number[]): number {
  assert(values.length > 0, 'the median of nothing');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The value that a share of all, 0 to 1, is not above. */
export function quantileOf(values: readonly number[], share: number): number {
  assert(values.length > 0 && share > 0 && share <= 1);
  return [...values].sort((a, b) => a - b)[Math.ceil(values.length * share) - 1]!;
}

/** A median with the extremes it came from. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spread(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/**
 * `numerators[i] / denominators[i]` of each round: the two stand next to each other in time, so a machine that slows
 * down for a while slows both, and the median of the ratios is steadier than the ratio of the medians.
 */
export function pairedRatio(numerators: readonly number[], denominators: readonly number[]): Spread {
  assert.equal(numerators.length, denominators.length, 'rounds must be paired');
  return spread(numerators.map((value, round) => value / denominators[round]!));
}

/**
 * The share of pairs, one of each, in which the first is smaller, half of the equal ones included: the area under the
 * curve of who tells them apart by size. 0.5 for samples of one distribution.
 */
export function earlierShare(first: readonly number[], second: readonly number[]): number {
  assert(first.length > 0 && second.length > 0, 'a share of nothing');
  let smaller = 0;
  for (const a of first) for (const b of second) smaller += a < b ? 1 : a === b ? 0.5 : 0;
  return smaller / (first.length * second.length);
}
