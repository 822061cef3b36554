/**
 * What a decode step of some sequences takes, from how long earlier ones took: a fixed part (the weights are read), a
 * part for each row, and parts for the keys that are read, once for all rows or by each for itself.
 *
 * Until batches have been measured, they are believed to be to lone sequences what they are for the default model.
 */
import { Costs, sumOf } from './costs.js';

export interface DecodeShape {
  /** Tokens of each sequence before the one to compute. */
  readonly positions: readonly number[];
  /** Those that all sequences begin with and that are read once; 0: each reads its own. */
  readonly sharedRows: number;
}

/** Milliseconds of the default model on two cores, of the features below. */
const BELIEVED_LONE = [12, 7.5];
const BELIEVED_BATCH = [16, 3.2, 6.3, 2, 6, 1.1];
export class DecodeCosts {
  readonly #lone = new Costs(BELIEVED_LONE);
  readonly #batch = new Costs(BELIEVED_BATCH);

  /** Milliseconds. */
  predict(shape: DecodeShape): number {
    if (shape.positions.length === 1) return this.#lone.predict(features(shape));
    return this.#batch.isKnown ? this.#batch.predict(features(shape)) : this.believed(shape);
  }

  /** As `predict`, as if no batch had ever been measured. */
  believed(shape: DecodeShape): number {
    const isLone = shape.positions.length === 1;
    return isLone ? this.predict(shape) : this.#lone.pace * sumOf(BELIEVED_BATCH, features(shape));
  }

  measured(shape: DecodeShape, ms: number): void {
    const costs = shape.positions.length === 1 ? this.#lone : this.#batch;
    costs.measured(features(shape), ms);
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
