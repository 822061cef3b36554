/** Counts of values by fixed bounds: they add up exactly, and take the same memory however many values there were. */

/** `counts[i]` values are at most `bounds[i]` and above the bound before; the last one is of those above all bounds. */
export interface HistogramReading {
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
  readonly sum: number;
}

/** The bucket of a value: that of the first bound which is not below it, else one more than there are bounds. */
export function bucketOf(bounds: readonly number[], value: number): number {
  const index = bounds.findIndex((bound) => value <= bound);
  return index < 0 ? bounds.length : index;
}

export class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;

  /** @param bounds ascending */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  observe(value: number): void {
    this.#counts[bucketOf(this.#bounds, value)]!++;
    this.#sum += value;
  }

  reading(): HistogramReading {
    return { bounds: this.#bounds, counts: [...this.#counts], sum: this.#sum };
  }
}

/** How many values there were. */
export function observed({ counts }: Pick<HistogramReading, 'counts'>): number {
  return counts.reduce((sum, count) => sum + count, 0);
}

/**
 * The value that a share of all is not above, as if values lay evenly between two bounds (from 0 below the first one);
 * what is above all bounds counts as the last one. Undefined without values.
 */
export function quantile(
  { bounds, counts }: Omit<HistogramReading, 'sum'>,
  share: number,
): number | undefined {
  const rank = share * observed({ counts });
  if (rank === 0) return undefined;
  let below = 0;
  for (const [i, count] of counts.entries()) {
    if (below + count >= rank && count > 0) {
      const [from, to] = [bounds[i - 1] ?? 0, bounds[i] ?? bounds.at(-1)!];
      return i >= bounds.length ? to : from + ((rank - below) / count) * (to - from);
    }
    below += count;
  }
  return bounds.at(-1);
}
