/**
 * A linear model of a quantity, kept up with measurements: ridge regression towards what is believed beforehand, in
 * which older measurements count less and less. What no recent measurement tells falls back to the belief.
 */
import assert from 'node:assert/strict';

/** What a measurement keeps of its weight with every later one. */
const KEPT_WEIGHT = 0.99;

/** A measurement is taken for at most so many times the prediction: now and then a machine has other things to do. */
const SURPRISE_MAX = 3;

export class LeastSquares {
  readonly #belief: readonly number[];
  /** Measurements that the belief weighs as much as. */
  readonly #beliefWeight: number;
  /** `Σ x xᵀ` and `Σ x y`, without the belief. */
  readonly #products: number[][];
  readonly #sums: number[];
  #coefficients: readonly number[];

  constructor(belief: readonly number[], beliefWeight: number) {
    this.#belief = belief;
    this.#beliefWeight = beliefWeight;
    this.#products = belief.map(() => belief.map(() => 0));
    this.#sums = belief.map(() => 0);
    this.#coefficients = belief;
  }

  /** Never negative. */
  predict(features: readonly number[]): number {
    return Math.max(
      0,
      features.reduce((sum, x, i) => sum + x * this.#coefficients[i]!, 0),
    );
  }

  /** @param features as many as there are coefficients */
  measured(features: readonly number[], value: number): void {
    assert.equal(features.length, this.#belief.length);
    const taken = Math.min(value, SURPRISE_MAX * this.predict(features));
    for (const [i, x] of features.entries()) {
      for (const [j, other] of features.entries()) {
        this.#products[i]![j] = KEPT_WEIGHT * this.#products[i]![j]! + x * other;
      }
      this.#sums[i] = KEPT_WEIGHT * this.#sums[i]! + x * taken;
    }
    this.#coefficients = this.#solve();
  }

  #solve(): number[] {
    const weight = this.#beliefWeight;
    const rows = this.#products.map((row, i) => [
      ...row.map((value, j) => (i === j ? value + weight : value)),
      this.#sums[i]! + weight * this.#belief[i]!,
    ]);
    return eliminate(rows);
  }
}

/** Solves `[A | b]`, A positive definite, by Gaussian elimination. */
function eliminate(rows: number[][]): number[] {
  const size = rows.length;
  for (let i = 0; i < size; i++) {
    for (let below = i + 1; below < size; below++) {
      const factor = rows[below]![i]! / rows[i]![i]!;
      for (let j = i; j <= size; j++) rows[below]![j]! -= factor * rows[i]![j]!;
    }
  }
  const solution = Array<number>(size).fill(0);
  for (let i = size - 1; i >= 0; i--) {
    const known = solution.reduce((sum, x, j) => (j > i ? sum + x * rows[i]![j]! : sum), 0);
    solution[i] = (rows[i]![size]! - known) / rows[i]![i]!;
  }
  return solution;
}
