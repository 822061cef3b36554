/**
 * What a prefill tile takes, from how long earlier ones took: a fixed part, a part for each token, and a part for each
 * key that a token reads.
 */
import { Costs } from './costs.js';

/** Milliseconds of the default model on two cores, of the features below. */
const BELIEVED = [10, 1400, 250];

export class PrefillCosts {
  readonly #costs = new Costs(BELIEVED);

  /** Milliseconds. */
  predict(tile: { readonly start: number; readonly tokens: number }): number {
    return this.#costs.predict(features(tile));
  }

  /** The longest tile from row `start` on that is predicted to take no more than `ms`, at least 0 tokens. */
  tokensWithin(ms: number, start: number): number {
    const empty = this.predict({ start, tokens: 0 });
    const perToken = (this.predict({ start, tokens: 1024 }) - empty) / 1024;
    return perToken > 0 ? Math.max(0, Math.floor((ms - empty) / perToken)) : Infinity;
  }

  measured(tile: { readonly start: number; readonly tokens: number }, ms: number): void {
    this.#costs.measured(features(tile), ms);
  }
}

/** Tokens and keys in thousands, so that all features are of a size. */
function features({ start, tokens }: { readonly start: number; readonly tokens: number }): number[] {
  return [1, tokens / 1000, (tokens / 1000) * (start / 1000)];
}
