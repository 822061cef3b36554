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
