/**
 * What a decode step of some sequences takes, from how long earlier ones took: a fixed part (the weights are read), a
 * part for each row, and parts for the keys that are read, once for all rows or by each for itself.
 *
 * Until batches have been measured, they are believed to be to lone sequences what they are for the default model.
 */
import { LeastSquares } from './least-squares.js';

export interface DecodeShape {
  /** Tokens of each sequence before the one to compute. */
  readonly positions: readonly number[];
  /** Those that all sequences begin with and that are read once; 0: each reads its own. */
  readonly sharedRows: number;
}

/** Milliseconds of the default model on two cores, of the features below. */
const BELIEVED_LONE = [12, 7.5];
const BELIEVED_BATCH = [16, 3.2, 6.3, 2, 6, 1.1];
/** In steps. */
const BELIEF_WEIGHT = 0.1;

/** The first runs of a graph take longer, and are not learned from. */
const WARM_UP_STEPS = 3;

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

class Costs {
  readonly #believed: readonly number[];
  #model: LeastSquares;
  #steps = 0;
  #last: readonly number[] | undefined;

  constructor(believed: readonly number[]) {
    this.#believed = believed;
    this.#model = new LeastSquares(believed, BELIEF_WEIGHT);
  }

  get isKnown(): boolean {
    return this.#steps > WARM_UP_STEPS;
  }

  /** How many times as long as believed steps like the last one take. */
  get pace(): number {
    return this.#last === undefined ? 1 : this.predict(this.#last) / sumOf(this.#believed, this.#last);
  }

  predict(shape: readonly number[]): number {
    return this.#model.predict(shape);
  }

  measured(shape: readonly number[], ms: number): void {
    this.#steps++;
    if (this.#steps === WARM_UP_STEPS + 1) {
      const pace = ms / sumOf(this.#believed, shape);
      const belief = this.#believed.map((coefficient) => pace * coefficient);
      this.#model = new LeastSquares(belief, BELIEF_WEIGHT);
    }
    if (!this.isKnown) return;
    this.#model.measured(shape, ms);
    this.#last = shape;
  }
}

const sumOf = (coefficients: readonly number[], values: readonly number[]) =>
  coefficients.reduce((sum, coefficient, i) => sum + coefficient * values[i]!, 0);

/** Keys in thousands, so that all features are of a size. */
function features({ positions, sharedRows }: DecodeShape): number[] {
  const rows = positions.length;
  const own = positions.reduce((sum, position) => sum + position - sharedRows, 0) / 1000;
  if (rows === 1) return [1, own];
  const shared = sharedRows / 1000;
  return [1, rows, own, sharedRows > 0 ? 1 : 0, shared, rows * shared];
}
