/**
 * Segmented LRU: a chunk is on probation until it is used; then it is protected, as long as there is room for it
 * among the protected. Chunks on probation go first, in each segment the least recently used.
 *
 * A protected chunk that has to give way goes back on probation as its most recently used one.
 */
import { LRUCache } from 'lru-cache';
import type { ChunkKey } from '../key.js';
import type { Lane, Policy, PolicyTier, RankedChunk } from './policy.js';

/** The share of the capacity for protected chunks. */
const PROTECTED_SHARE = 0.8;

const PROBATION = 0;
const PROTECTED = 1;

export class Slru implements Policy {
  readonly #tier: PolicyTier;
  readonly #protected: LRUCache<ChunkKey, RankedChunk>;
  /** Back on probation: since when. */
  readonly #demotedAt = new Map<ChunkKey, number>();
  #latestUse = 0;

  constructor(tier: PolicyTier) {
    this.#tier = tier;
    this.#protected = new LRUCache({
      maxSize: Math.max(1, Math.floor(tier.capacityBytes * PROTECTED_SHARE)),
      sizeCalculation: (chunk) => chunk.bytes,
      disposeAfter: (chunk, key, reason) => {
        if (reason !== 'evict') return;
        this.#demotedAt.set(key, this.#latestUse);
        tier.moved(chunk);
      },
    });
  }

  rank(chunk: RankedChunk): number {
    return this.#demotedAt.get(chunk.key) ?? chunk.lastUse;
  }

  lane(chunk: RankedChunk): Lane {
    return this.#protected.has(chunk.key) ? PROTECTED : PROBATION;
  }

  added(chunk: RankedChunk): void {
    this.#latestUse = chunk.lastUse;
    if (chunk.hits > 0) this.#protect(chunk);
  }

  used(chunk: RankedChunk): void {
    this.#latestUse = chunk.lastUse;
    this.#demotedAt.delete(chunk.key);
    this.#protect(chunk);
  }

  left(chunk: RankedChunk): void {
    this.#protected.delete(chunk.key);
    this.#demotedAt.delete(chunk.key);
  }

  #protect(chunk: RankedChunk): void {
    const cached = this.#protected.set(chunk.key, chunk);
    while (cached.calculatedSize > this.#tier.capacityBytes * PROTECTED_SHARE && cached.size > 1)
      cached.pop();
  }
}
