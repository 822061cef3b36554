/**
 * What happens to KV chunks, numbered, for whoever watches: routers that know by it what a node has, dashboards.
 *
 * The last events are kept in a ring. A reader goes on from any number, at its own pace: what has left the ring
 * meanwhile it misses, and is told so. Nobody waits for a reader.
 */
import type { BreakerState, ChunkKey, EvictReason, TierName } from '#storage';

/** Chunks that came to a tier, a path; or one that left it. */
export type ChunkChange =
  | {
      readonly type: 'stored';
      readonly namespace: string;
      readonly tier: TierName | 'remote';
      /** Computed, copied down or up, found by a start, or from an archive. */
      readonly cause: 'computed' | 'demoted' | 'promoted' | 'loaded' | 'imported';
      readonly keys: readonly ChunkKey[];
      /** Of the first one; undefined at position 0. */
      readonly parent: ChunkKey | undefined;
      /** Of all of them. */
      readonly tokens: Int32Array;
    }
  | {
      readonly type: 'removed';
      readonly namespace: string;
      readonly tier: TierName;
      readonly key: ChunkKey;
      readonly reason: EvictReason;
    }
  /** The connection to the remote tier changed its state; `open`: it is not used. Of no namespace. */
  | { readonly type: 'remote'; readonly state: BreakerState; readonly reason: string | undefined }
  /** All of a namespace was deleted; of each chunk a `removed` came before. */
  | { readonly type: 'cleared'; readonly namespace: string };

export type CacheEvent = ChunkChange & {
  /** From 1, without gaps, anew with each start of the process. */
  readonly seq: number;
  /** Milliseconds since the epoch. */
  readonly atMs: number;
};

/** Events that a reader missed: `[from, to]`. */
export interface EventGap {
  readonly type: 'gap';
  readonly from: number;
  readonly to: number;
}

/** Events that are kept. */
export const KEPT_EVENTS = 10_000;

export class CacheEvents {
  readonly #now: () => number;
  readonly #kept: number;
  readonly #ring: CacheEvent[] = [];
  #seq = 0;
  #isClosed = false;
  #waiters: (() => void)[] = [];

  constructor({ now, kept = KEPT_EVENTS }: { readonly now: () => number; readonly kept?: number }) {
    this.#now = now;
    this.#kept = kept;
  }

  /** Number of the last event; 0 before the first. */
  get last(): number {
    return this.#seq;
  }

  emit(change: ChunkChange): void {
    const event = { ...change, seq: ++this.#seq, atMs: this.#now() };
    this.#ring[event.seq % this.#kept] = event;
    this.#wake();
  }

  /**
   * The events after number `after`, also those to come, until the signal fires or the stream is closed. A number that
   * is not there yet is taken for one of an earlier process: what is kept comes, after a gap.
   */
  async *read(after: number, signal: AbortSignal): AsyncGenerator<CacheEvent | EventGap, void, void> {
    let seq = after;
    if (after > this.#seq) {
      seq = Math.max(0, this.#seq - this.#kept);
      yield { type: 'gap', from: after + 1, to: seq };
    }
    const wake = () => this.#wake();
    signal.addEventListener('abort', wake, { once: true });
    try {
      while (!signal.aborted && !this.#isClosed) {
        const oldest = Math.max(1, this.#seq - this.#kept + 1);
        if (seq + 1 < oldest) {
          yield { type: 'gap', from: seq + 1, to: oldest - 1 };
          seq = oldest - 1;
        } else if (seq < this.#seq) yield this.#ring[++seq % this.#kept]!;
        else await new Promise<void>((resolve) => this.#waiters.push(resolve));
      }
    } finally {
      signal.removeEventListener('abort', wake);
    }
  }

  /** Ends all readers. */
  close(): void {
    this.#isClosed = true;
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiters.splice(0)) resolve();
  }
}
