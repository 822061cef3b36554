/**
 * What became of chunks that were evicted to make room: how long they had lived, how often they were used, and which
 * of them were computed again, so that it would have been better to keep them (*regret*).
 *
 * The keys of the last `GHOSTS_MAX` chunks that left their last tier are remembered, nothing else of them. Chunks that
 * were deleted, ran out, or were damaged do not count: nobody chose them.
 */
import { LRUCache } from 'lru-cache';
import type { ChunkKey, ChunkLife, Clock, TierName } from '#storage';
import { Histogram } from '../histogram.js';
import type { LivesReading } from '../serving/statistics.js';

/** Keys of evicted chunks that are remembered, about 5 MB of them; those evicted longest ago go first. */
export const GHOSTS_MAX = 32_768;

/** Seconds. */
const AGE_BOUNDS = [1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 86_400, 7 * 86_400];
const USES_BOUNDS = [0, 1, 2, 3, 5, 10, 20, 50, 100, 1000];

interface Ghost {
  readonly namespace: string;
  readonly tier: TierName;
  readonly atMs: number;
}

class Lives {
  readonly ageS = new Histogram(AGE_BOUNDS);
  readonly uses = new Histogram(USES_BOUNDS);
  readonly regretS = new Histogram(AGE_BOUNDS);

  reading(): LivesReading {
    return { ageS: this.ageS.reading(), uses: this.uses.reading(), regretS: this.regretS.reading() };
  }
}

export class ChunkLives {
  readonly #clock: Clock;
  readonly #ghosts: LRUCache<ChunkKey, Ghost>;
  readonly #tiers = { host: new Lives(), disk: new Lives() };

  constructor({ clock, ghostsMax = GHOSTS_MAX }: { readonly clock: Clock; readonly ghostsMax?: number }) {
    this.#clock = clock;
    this.#ghosts = new LRUCache({ max: ghostsMax });
  }

  /** A tier evicted a chunk. */
  left(tier: TierName, { createdAtMs, hits }: ChunkLife): void {
    this.#tiers[tier].ageS.observe(this.#secondsSince(createdAtMs));
    this.#tiers[tier].uses.observe(hits);
  }

  /** It was the last tier that had the chunk. */
  gone(key: ChunkKey, namespace: string, tier: TierName): void {
    this.#ghosts.set(key, { namespace, tier, atMs: this.#clock.now() });
  }

  /** A chunk was computed. @returns the tier that should have kept it, if it is known to have been evicted */
  computed(key: ChunkKey): TierName | undefined {
    const ghost = this.#ghosts.get(key);
    if (ghost === undefined) return undefined;
    this.#ghosts.delete(key);
    this.#tiers[ghost.tier].regretS.observe(this.#secondsSince(ghost.atMs));
    return ghost.tier;
  }

  /** What a namespace had is wanted no more. */
  forget(namespace: string): void {
    for (const [key, ghost] of this.#ghosts.entries())
      if (ghost.namespace === namespace) this.#ghosts.delete(key);
  }

  reading(): Readonly<Record<TierName, LivesReading>> {
    return { host: this.#tiers.host.reading(), disk: this.#tiers.disk.reading() };
  }

  #secondsSince(ms: number): number {
    return Math.max(0, this.#clock.now() - ms) / 1000;
  }
}
