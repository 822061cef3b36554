/**
 * Counts that wait to be written, by bucket, dimension and group. Bounded: where there are too many groups, new ones
 * are added to `other`; where there are too many buckets, the oldest is given up.
 */
import { addCounts, type Counts, noCounts, requestsOf } from '../serving/counts.js';
import {
  type CountRow,
  DIMENSIONS,
  type Dimension,
  OTHER,
  ROW_DIMENSIONS,
  type RowDimension,
} from './count-table.js';
import { floorTo } from './resolutions.js';

/** Rows that wait, but for three of `other` and the total of each bucket. */
export const ROWS_MAX = 20_000;

type Bucket = Readonly<Record<RowDimension, Map<string, Counts>>>;

export class PendingCounts {
  readonly #sizeMs: number;
  readonly #rowsMax: number;
  readonly #buckets = new Map<number, Bucket>();
  #rows = 0;
  #requests = 0;

  constructor(sizeMs: number, rowsMax = ROWS_MAX) {
    this.#sizeMs = sizeMs;
    this.#rowsMax = rowsMax;
  }

  get requests(): number {
    return this.#requests;
  }

  /** @returns how many requests were given up for it */
  add(nowMs: number, groups: Readonly<Record<Dimension, string>>, counts: Counts): number {
    const startMs = floorTo(nowMs, this.#sizeMs);
    let bucket = this.#buckets.get(startMs);
    let lost = 0;
    if (bucket === undefined) {
      lost = this.#makeRoom();
      bucket = { total: new Map(), tenant: new Map(), model: new Map(), route: new Map() };
      this.#buckets.set(startMs, bucket);
    }
    this.#requests += requestsOf(counts);
    this.#addTo(bucket, 'total', '', counts);
    for (const dimension of DIMENSIONS) this.#addTo(bucket, dimension, groups[dimension], counts);
    return lost;
  }

  rows(): CountRow[] {
    return [...this.#buckets].flatMap(([atMs, bucket]) =>
      ROW_DIMENSIONS.flatMap((dimension) =>
        [...bucket[dimension]].map(([name, counts]) => ({ atMs, dimension, name, counts })),
      ),
    );
  }

  clear(): void {
    this.#buckets.clear();
    this.#rows = 0;
    this.#requests = 0;
  }

  #addTo(bucket: Bucket, dimension: RowDimension, name: string, counts: Counts): void {
    const groups = bucket[dimension];
    const isFull = this.#rows >= this.#rowsMax && dimension !== 'total';
    const group = isFull && !groups.has(name) ? OTHER : name;
    let sum = groups.get(group);
    if (sum === undefined) {
      sum = noCounts();
      groups.set(group, sum);
      this.#rows++;
    }
    addCounts(sum, counts);
  }

  #makeRoom(): number {
    let lost = 0;
    for (const [startMs, bucket] of this.#buckets) {
      if (this.#rows < this.#rowsMax) break;
      this.#buckets.delete(startMs);
      for (const dimension of ROW_DIMENSIONS) this.#rows -= bucket[dimension].size;
      for (const counts of bucket.total.values()) lost += requestsOf(counts);
    }
    this.#requests -= lost;
    return lost;
  }
}
