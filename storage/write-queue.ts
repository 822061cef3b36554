/**
 * Chunks on their way down, from host memory to a slower store, in the background.
 *
 * A chunk is written after its ancestors, so that what is below is whole prefixes. While it waits it is not held: what
 * leaves the host meanwhile is skipped (and counted), so that a slow store never fills the memory. While it is
 * written it is leased. Knows no policy: who calls `add` has decided.
 */
import type { HostStore } from './host-store.js';
import type { ChunkKey } from './key.js';
import type { LowerStore } from './lower-store.js';
import { slotBytes } from './slab.js';

/** Chunks that may wait; more are skipped. */
const QUEUED_CHUNKS_MAX = 4096;

/** Chunks handed to the store below at the same time; it writes what it has in one batch. */
const WRITING_CHUNKS_MAX = 8;

export interface WriteCounts {
  stored: number;
  /** The store below refused: full, failed, or not open. */
  refused: number;
  /** The chunk was evicted before its turn. */
  lost: number;
  /** Too many were waiting. */
  overflowed: number;
}

export class WriteQueue {
  readonly counts: WriteCounts = { stored: 0, refused: 0, lost: 0, overflowed: 0 };
  readonly #host: HostStore;
  readonly #below: LowerStore;
  readonly #onStored: (key: ChunkKey) => void;
  readonly #onRefused: (key: ChunkKey) => void;
  readonly #waiting = new Set<ChunkKey>();
  readonly #writing = new Set<ChunkKey>();
  #idleWaiters: (() => void)[] = [];

  constructor(options: {
    readonly host: HostStore;
    readonly below: LowerStore;
    readonly onStored: (key: ChunkKey) => void;
    readonly onRefused: (key: ChunkKey) => void;
  }) {
    this.#host = options.host;
    this.#below = options.below;
    this.#onStored = options.onStored;
    this.#onRefused = options.onRefused;
  }

  /** Waiting and being written. */
  get length(): number {
    return this.#waiting.size + this.#writing.size;
  }

  isWriting(key: ChunkKey): boolean {
    return this.#writing.has(key);
  }

  /** Writes a chunk of the host store when its turn comes, and before it those of its ancestors that are not below. */
  add(key: ChunkKey): void {
    const path: ChunkKey[] = [];
    for (let at: ChunkKey | undefined = key; at !== undefined && this.#isNew(at); ) {
      path.push(at);
      at = this.#host.identity(at)?.parent;
    }
    for (const next of path.toReversed()) {
      if (this.#waiting.size < QUEUED_CHUNKS_MAX) this.#waiting.add(next);
      else this.counts.overflowed++;
    }
    this.#pump();
  }

  /** Forgets what waits; what is being written goes on. */
  clear(): void {
    this.counts.lost += this.#waiting.size;
    this.#waiting.clear();
    this.#settle();
  }

  /** Resolves when nothing waits or is being written. */
  idle(): Promise<void> {
    if (this.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  #isNew(key: ChunkKey): boolean {
    const isOnItsWay = this.#waiting.has(key) || this.#writing.has(key);
    return !isOnItsWay && this.#host.has(key) && !this.#below.has(key);
  }

  #pump(): void {
    for (const key of this.#waiting) {
      if (this.#writing.size >= WRITING_CHUNKS_MAX) return;
      this.#waiting.delete(key);
      void this.#write(key);
    }
    this.#settle();
  }

  async #write(key: ChunkKey): Promise<void> {
    const chunk = this.#host.identity(key);
    const place = this.#host.lookup(key);
    if (chunk === undefined || place === undefined || !this.#host.lease(key)) {
      this.counts.lost++;
      return;
    }
    this.#writing.add(key);
    const bytes = slotBytes(this.#host.slab, place.slot);
    const outcome = await this.#below.store(chunk, bytes, {
      checksum: place.checksum,
      isExact: this.#host.exactOf(key)!,
      ...this.#host.retention(key),
    });
    this.#writing.delete(key);
    this.#host.release(key);
    if (outcome === 'stored') {
      this.counts.stored++;
      this.#onStored(key);
    } else {
      if (outcome !== 'present') this.counts.refused++;
      this.#onRefused(key);
    }
    this.#pump();
  }

  #settle(): void {
    if (this.length > 0) return;
    for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }
}
