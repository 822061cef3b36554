/**
 * What a tier would hold if it went by another policy: names of chunks only, the lowest rank evicted first, and leaves
 * only. Knows no leases and pins, so it does a little better than a tier can.
 */
import { Ranking, Ticket } from '../ranking.js';

/** A chunk that may be in a shadow tier. */
export interface Shadowed<T> {
  readonly bytes: number;
  readonly parent: T | undefined;
  readonly shadow: ShadowPlace<T>;
}

/** Only the shadow tier changes it. */
export class ShadowPlace<T> {
  readonly ticket: Ticket<T>;
  isIn = false;
  /** Chunks right after it that are in. */
  children = 0;

  constructor(chunk: T) {
    this.ticket = new Ticket(chunk);
  }
}

export class ShadowTier<T extends Shadowed<T>> {
  readonly #capacityBytes: () => number;
  readonly #rank: (chunk: T) => number;
  readonly #leaves = new Ranking<T>();
  #usedBytes = 0;

  constructor(options: { readonly capacityBytes: () => number; readonly rank: (chunk: T) => number }) {
    this.#capacityBytes = options.capacityBytes;
    this.#rank = options.rank;
  }

  /** A request uses a chunk, which is in from now on. Whether it was. */
  use(chunk: T): boolean {
    const { shadow } = chunk;
    const wasIn = shadow.isIn;
    if (!wasIn) {
      shadow.isIn = true;
      this.#usedBytes += chunk.bytes;
      this.#countChild(chunk, 1);
    }
    this.#leaves.delete(shadow.ticket);
    while (this.#usedBytes > this.#capacityBytes()) {
      const lowest = this.#leaves.first;
      if (lowest === undefined) break;
      this.#evict(lowest.item);
    }
    this.#place(chunk);
    return wasIn;
  }

  /** All ranks may have changed. */
  movedAll(): void {
    this.#leaves.revalue(this.#rank);
  }

  #evict(chunk: T): void {
    chunk.shadow.isIn = false;
    this.#leaves.delete(chunk.shadow.ticket);
    this.#usedBytes -= chunk.bytes;
    this.#countChild(chunk, -1);
  }

  #countChild({ parent }: T, change: 1 | -1): void {
    if (parent === undefined) return;
    parent.shadow.children += change;
    this.#place(parent);
  }

  /** Puts a chunk among those that may be evicted, or takes it from there. */
  #place(chunk: T): void {
    const { isIn, children, ticket } = chunk.shadow;
    if (isIn && children === 0) this.#leaves.set(ticket, this.#rank(chunk));
    else this.#leaves.delete(ticket);
  }
}
