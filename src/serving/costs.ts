/** What runs of a graph take, as a linear function of their shape, learned from how long earlier ones took. */
import { LeastSquares } from './least-squares.js';

/** In runs. */
const BELIEF_WEIGHT = 0.1;

/** The first runs of a graph take longer, and are not learned from. */
const WARM_UP_RUNS = 3;

export class Costs {
  /** Milliseconds of the default model on two cores, for each feature. */
  readonly #believed: readonly number[];
  #model: LeastSquares;
  #runs = 0;
  #last: readonly number[] | undefined;

  constructor(believed: readonly number[]) {
    this.#believed = believed;
    this.#model = new LeastSquares(believed, BELIEF_WEIGHT);
  }

  get isKnown(): boolean {
    return this.#runs > WARM_UP_RUNS;
  }

  /** How many times as long as believed runs like the last one take. */
  get pace(): number {
    return this.#last === undefined ? 1 : this.predict(this.#last) / sumOf(this.#believed, this.#last);
  }

  predict(shape: readonly number[]): number {
    return this.#model.predict(shape);
  }

  measured(shape: readonly number[], ms: number): void {
    this.#runs++;
    if (this.#runs === WARM_UP_RUNS + 1) {
      const pace = ms / sumOf(this.#believed, shape);
      const belief = this.#believed.map((coefficient) => pace * coefficient);
      this.#model = new LeastSquares(belief, BELIEF_WEIGHT);
    }
    if (!this.isKnown) return;
    this.#model.measured(shape, ms);
    this.#last = shape;
  }
}

export const sumOf = (coefficients: readonly number[], values: readonly number[]) =>
  coefficients.reduce((sum, coefficient, i) => sum + coefficient * values[i]!, 0);
