/**
 * S3-FIFO (Yang et al., SOSP 2023): a small queue for newcomers, a main queue for those that were used in it, and a
 * list of keys that left the small queue without being used enough, whose chunks go straight to the main one.
 *
 * The small queue gives chunks up while it holds more than its share. A chunk at its end that was used twice moves to
 * the main queue; at the end of the main queue each use buys one more round. Here both queues give up their oldest
 * *leaf*, since a chunk goes before the one it follows.
 */
import { LRUCache } from 'lru-cache';
import type { ChunkKey } from '../key.js';
import type { Lane, Policy, PolicyTier, RankedChunk } from './policy.js';

const SMALL_SHARE = 0.1;
const MOVES_WITH_USES = 2;
const USES_MAX = 3;

const SMALL = 0;
const MAIN = 1;

interface Place {
  lane: Lane;
  /** Since it has its place, at most `USES_MAX`. */
  uses: number;
  /** Of its arrival in its lane. */
  order: number;
}

export class S3Fifo implements Policy {
  readonly #tier: PolicyTier;
  readonly #places = new Map<ChunkKey, Place>();
  /** As many keys as the main queue could hold, by bytes. */
  readonly #ghosts: LRUCache<ChunkKey, true>;
  #smallBytes = 0;
  #arrivals = 0;

  constructor(tier: PolicyTier) {
    this.#tier = tier;
    this.#ghosts = new LRUCache({ maxSize: Math.max(1, Math.floor(tier.capacityBytes * (1 - SMALL_SHARE))) });
  }

  rank(chunk: RankedChunk): number {
    return this.#placeOf(chunk).order;
  }

  lane(chunk: RankedChunk): Lane {
    return this.#placeOf(chunk).lane;
  }

  firstLane(): Lane {
    return this.#smallBytes > this.#tier.capacityBytes * SMALL_SHARE ? SMALL : MAIN;
  }

  added(chunk: RankedChunk): void {
    const lane = this.#ghosts.delete(chunk.key) || chunk.hits >= MOVES_WITH_USES ? MAIN : SMALL;
    if (lane === SMALL) this.#smallBytes += chunk.bytes;
    this.#places.set(chunk.key, { lane, uses: 0, order: ++this.#arrivals });
  }

  used(chunk: RankedChunk): void {
    const place = this.#placeOf(chunk);
    place.uses = Math.min(USES_MAX, place.uses + 1);
  }

  spare(chunk: RankedChunk): boolean {
    const place = this.#placeOf(chunk);
    if (place.lane === SMALL && place.uses >= MOVES_WITH_USES) {
      this.#smallBytes -= chunk.bytes;
      Object.assign(place, { lane: MAIN, uses: 0, order: ++this.#arrivals });
      return true;
    }
    if (place.lane === SMALL || place.uses === 0) return false;
    Object.assign(place, { uses: place.uses - 1, order: ++this.#arrivals });
    return true;
  }

  left(chunk: RankedChunk, isEvicted: boolean): void {
    const { lane } = this.#placeOf(chunk);
    this.#places.delete(chunk.key);
    if (lane === MAIN) return;
    this.#smallBytes -= chunk.bytes;
    if (isEvicted) this.#ghosts.set(chunk.key, true, { size: chunk.bytes });
  }

  #placeOf(chunk: RankedChunk): Place {
    return this.#places.get(chunk.key)!;
  }
}
