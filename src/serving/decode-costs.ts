/**
 * What a decode step of some sequences takes, from how long earlier ones took: a fixed part (the weights are read), a
 * part for each row, and parts for the keys that are read, once for all rows or by each for itself.
 */
import { LeastSquares } from './least-squares.js';

export interface DecodeShape {
  /** Tokens of each sequence before the one to compute. */
  readonly positions: readonly number[];
  /** Those that all sequences begin with and that are read once; 0: each reads its own. */
  readonly sharedRows: number;
}

/** Milliseconds of the default model on two cores, of the features below: what is believed before the first steps. */
const BELIEVED_LONE = [12, 7.5];
const BELIEVED_BATCH = [16, 3.2, 6.3, 2, 6, 1.1];
/** In steps. */
const BELIEF_WEIGHT = 0.5;

export class DecodeCosts {
  readonly #lone = new LeastSquares(BELIEVED_LONE, BELIEF_WEIGHT);
  readonly #batch = new LeastSquares(BELIEVED_BATCH, BELIEF_WEIGHT);

  /** Milliseconds. */
  predict(shape: DecodeShape): number {
    return this.#modelOf(shape).predict(features(shape));
  }

  measured(shape: DecodeShape, ms: number): void {
    this.#modelOf(shape).measured(features(shape), ms);
  }

  #modelOf({ positions }: DecodeShape): LeastSquares {
    return positions.length === 1 ? this.#lone : this.#batch;
  }
}

/** Keys in thousands, so that all features are of a size. */
function features({ positions, sharedRows }: DecodeShape): number[] {
  const rows = positions.length;
  const own = positions.reduce((sum, position) => sum + position - sharedRows, 0) / 1000;
  if (rows === 1) return [1, own];
  const shared = sharedRows / 1000;
  return [1, rows, own, sharedRows > 0 ? 1 : 0, shared, rows * shared];
}
