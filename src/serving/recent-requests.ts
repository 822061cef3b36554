/** The requests that ended last, with what each went through: a ring in memory, gone with the process. */
import type { Counts } from './counts.js';
import type { RequestRecord } from './statistics.js';

/** A request that was let in. */
export interface RecentRequest extends RequestRecord {
  readonly counts: Counts;
  /** When it ended, in milliseconds since the epoch. */
  readonly endedAtMs: number;
}

export class RecentRequests {
  readonly #max: number;
  readonly #now: () => number;
  /** The newest last. */
  readonly #ring: RecentRequest[] = [];
  #next = 0;

  /**
   * @param max how many are kept; 0: none
   * @param now milliseconds since the epoch
   */
  constructor({ max, now }: { readonly max: number; readonly now: () => number }) {
    this.#max = max;
    this.#now = now;
  }

  add(request: RequestRecord, counts: Counts): void {
    if (this.#max === 0) return;
    this.#ring[this.#next] = { ...request, counts, endedAtMs: this.#now() };
    this.#next = (this.#next + 1) % this.#max;
  }

  /** The newest first: those of one tenant; of all where `owner` is undefined. */
  list(count: number, owner: string | undefined): RecentRequest[] {
    const newestFirst = [...this.#ring.slice(this.#next), ...this.#ring.slice(0, this.#next)].toReversed();
    return newestFirst.filter((each) => owner === undefined || each.owner === owner).slice(0, count);
  }

  /** Keeps no text of a tenant's prompts any more. */
  forgetTexts(owner: string): void {
    for (const [i, request] of this.#ring.entries()) {
      const { course } = request;
      if (request.owner !== owner || course === undefined) continue;
      const miss = course.miss && { ...course.miss, excerpt: undefined };
      const nodes = course.nodes.map((node) => ({ ...node, excerpt: undefined }));
      this.#ring[i] = { ...request, course: { ...course, miss, nodes } };
    }
  }

  /** One of these. */
  get(id: string, owner: string | undefined): RecentRequest | undefined {
    return this.list(this.#max, owner).find((each) => each.id === id);
  }
}
