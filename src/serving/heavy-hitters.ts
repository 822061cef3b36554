/**
 * The keys of most weight in a stream, in bounded memory: the Space-Saving algorithm (Metwally, Agrawal and El Abbadi,
 * ICDT 2005). Exact as long as there are no more keys than there is room for; beyond that a new key takes the place and
 * the weight of the lightest one, so that a weight may be too large, by `errorMax` at most, and a key of more weight
 * than the lightest one is never missed.
 */
import FlatQueue from 'flatqueue';

export interface HeavyHitter<Detail> {
  readonly weight: number;
  /** The weight is too large by this at most. */
  readonly errorMax: number;
  /** How often it was added, since it was last taken in. */
  readonly hits: number;
  readonly lastMs: number;
  /** As it was told last. */
  readonly detail: Detail;
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

export class HeavyHitters<Detail> {
  readonly #keysMax: number;
  readonly #hitters = new Map<string, Mutable<HeavyHitter<Detail>>>();
  /** Each key once, by a weight that it had: since weights only grow, the lightest one comes up at its own at last. */
  readonly #byWeight = new FlatQueue<string>();

  constructor({ keysMax }: { readonly keysMax: number }) {
    this.#keysMax = keysMax;
  }

  /** O(1) for a key that is there, else amortised O(log keys). */
  add(
    key: string,
    weight: number,
    { atMs, detail }: { readonly atMs: number; readonly detail: Detail },
  ): void {
    const hitter = this.#hitters.get(key);
    if (hitter !== undefined) {
      hitter.weight += weight;
      hitter.hits++;
      hitter.lastMs = atMs;
      hitter.detail = detail;
      return;
    }
    const errorMax = this.#hitters.size < this.#keysMax ? 0 : this.#removeLightest();
    this.#hitters.set(key, { weight: errorMax + weight, errorMax, hits: 1, lastMs: atMs, detail });
    this.#byWeight.push(key, errorMax + weight);
  }

  /** Changes what was told of each. */
  retell(change: (detail: Detail) => Detail): void {
    for (const hitter of this.#hitters.values()) hitter.detail = change(hitter.detail);
  }

  /** The heaviest ones of those that are wanted, the heaviest first. */
  top(count: number, isWanted: (detail: Detail) => boolean): HeavyHitter<Detail>[] {
    const wanted = [...this.#hitters.values()].filter(({ detail }) => isWanted(detail));
    return wanted.toSorted((a, b) => b.weight - a.weight).slice(0, count);
  }

  /** @returns its weight */
  #removeLightest(): number {
    for (;;) {
      const least = this.#byWeight.peekValue()!;
      const key = this.#byWeight.pop()!;
      const { weight } = this.#hitters.get(key)!;
      if (weight === least) {
        this.#hitters.delete(key);
        return least;
      }
      this.#byWeight.push(key, weight);
    }
  }
}
