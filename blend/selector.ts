/**
 * What a selector is: it chooses which reused tokens are recomputed, and asks for the measurements it needs to.
 *
 * Invariant B2: the chosen positions ascend, are unique, and are exactly ceil(ratio · n) of the n reused tokens
 * (`none` and `all` take 0 and 1 for the ratio). Of equal tokens the one at the lowest position is chosen, so the
 * same measurements choose the same tokens.
 *
 * Knows no engine: measuring is the caller's, at once or after waiting for a worker.
 */
import assert from 'node:assert/strict';
import type { ReusedTokens } from './layout.js';

/** What is to be measured: one number for each of `positions`, in their order; the higher, the more urgent. */
export type Measurement =
  | {
      /** See `tokenDeviations`. The layers since the check before compute these positions only. */
      readonly kind: 'deviation';
      readonly of: 'K' | 'V';
      readonly relative: boolean;
      /** From 0. */
      readonly layer: number;
      readonly positions: Int32Array;
    }
  | {
      /** Softmax mass that the question's rows give the cached key, summed over rows, heads and layers. */
      readonly kind: 'attention';
      readonly positions: Int32Array;
    };

/**
 * A selection under way: yields measurements, is resumed with their results, returns the chosen positions.
 *
 *   let step = selection.next();
 *   while (!step.done) step = selection.next(await measure(step.value));
 *   const chosen = step.value;
 */
export type Selection = Generator<Measurement, Int32Array, ArrayLike<number>>;

/**
 * Begins to choose from `tokens`.
 * @param ratio recompute ratio, in [0, 1]: the share of the reused tokens that is recomputed
 */
export type Selector = (tokens: ReusedTokens, ratio: number) => Selection;

/** The budget of B2: ceil(ratio · tokens). What the product is above an integer by rounding costs no token. */
export function recomputeTokens(tokens: number, ratio: number): number {
  assert(ratio >= 0 && ratio <= 1, `recompute ratio ${ratio} is not in [0, 1]`);
  return Math.max(0, Math.ceil(ratio * tokens - 1e-9));
}

/**
 * A selector from a way to spend a budget. Ratios that choose none or all measure nothing.
 * @param choose called with `0 < count < n`; chooses `count` of the positions, ascending, at once or by measuring
 */
export function budgeted(choose: (tokens: ReusedTokens, count: number) => Int32Array | Selection): Selector {
  return function* (tokens, ratio) {
    const { positions } = tokens;
    const count = recomputeTokens(positions.length, ratio);
    if (count === 0) return new Int32Array();
    if (count === positions.length) return positions;
    const chosen = choose(tokens, count);
    return chosen instanceof Int32Array ? chosen : yield* chosen;
  };
}

/**
 * The `count` tokens of the highest rank: by the first scores, where those are equal by the next, and so on. A score
 * that is no number counts as infinite: whatever made it, that row had better be computed again.
 * @param scores each `[tokens]`, parallel to `tokens`
 */
export function highest(
  tokens: ReusedTokens,
  count: number,
  ...scores: readonly ArrayLike<number>[]
): ReusedTokens {
  const { positions, offsets } = tokens;
  for (const { length } of scores) assert(length === positions.length, 'one score a token');
  const order = Array.from(positions, (_, i) => i).sort((a, b) => {
    for (const score of scores) {
      const [scoreA, scoreB] = [urgency(score[a]!), urgency(score[b]!)];
      if (scoreA !== scoreB) return scoreA > scoreB ? -1 : 1;
    }
    return a - b;
  });
  const kept = Int32Array.from(order.slice(0, count)).sort();
  return { positions: kept.map((i) => positions[i]!), offsets: kept.map((i) => offsets[i]!) };
}

const urgency = (score: number): number => (Number.isNaN(score) ? Number.POSITIVE_INFINITY : score);
