/**
 * Learns how long chunks take to be used again, and keeps those that are worth their place; as long as that does
 * better than LRU, which it goes by until then.
 *
 * - *Classes.* A chunk's class is how often it was used and whether its path went on after it; what a class is worth
 *   at which age is learned from all chunks seen lately, also those no longer here (return-times.ts).
 * - *Ghosts.* What was seen is remembered for some capacities' worth of other chunks. The most recent capacity of it
 *   is just what LRU would hold.
 * - *Gate.* The uses that LRU and learning would each have answered are counted side by side. The tier goes by
 *   learning while that is ahead by more than chance: where both are alike, it is LRU to the letter.
 *
 * No constant is a time or a share of some traffic: all spans are multiples of the capacity. Too large a tier to
 * remember goes by LRU.
 */
import { LRUCache } from 'lru-cache';
import type { ChunkKey } from '../key.js';
import { Lead } from './lead.js';
import type { Policy, PolicyTier, RankedChunk } from './policy.js';
import { ReturnTimes, type Wait } from './return-times.js';
import { type Shadowed, ShadowPlace, ShadowTier } from './shadow-tier.js';

/**
 * Chunks remembered beyond those that LRU would hold, by the capacity; but so many in a small tier, about 6 MB, which
 * else would forget chunks before they return; and in a large one at most so many in all, about 100 MB. A tier of
 * half as many goes by LRU.
 */
const GHOST_CAPACITIES = 8;
const GHOSTS_MIN = 2 ** 14;
const SEEN_CHUNKS_MAX = 2 ** 18;
/** Uses that are told apart. */
const HITS_MAX = 5;
/** Learning takes place this often in a capacity of uses, but not more often than this many uses. */
const LEARNINGS_PER_CAPACITY = 8;
const LEARN_AFTER_USES_MIN = 200;
/** What was counted as many uses ago as this times the chunks remembered counts half. */
const HALF_LIFE = 2;
/** What tells in the long run, and what shows soon that the traffic has changed. */
const LONG_HALF_LIFE_CAPACITIES = 16;
const SHORT_HALF_LIFE_CAPACITIES = 4;
/** Standard deviations that learning must be ahead of LRU to be gone by, and to stay so. */
const AHEAD = {
  toEnter: { long: 2.5, short: 0 },
  toStay: { long: 0.5, short: -1 },
} as const;
/** Worths are told apart in steps of 1 %; within a step the least recently used goes first. */
const STEPS_PER_OCTAVE = 64;
/** Below 2^-30 uses per chunk and use of others, nothing is worth keeping. */
const WORTH_OCTAVES = 30;
/** More uses than a tier sees. */
const USES_MAX = 2 ** 36;

/** A chunk that was used lately, whether it is in the tier or not. */
class Seen implements Shadowed<Seen> {
  readonly key: ChunkKey;
  readonly bytes: number;
  readonly parent: Seen | undefined;
  readonly shadow: ShadowPlace<Seen> = new ShadowPlace(this);
  hits: number;
  /** No chunk followed when it was used last. */
  isEnd = true;
  /** Counted in uses of all chunks. */
  usedAt = 0;
  /** For its next use. */
  wait: Wait | undefined = undefined;

  constructor(chunk: RankedChunk, parent: Seen | undefined) {
    this.key = chunk.key;
    this.bytes = chunk.bytes;
    this.parent = parent;
    this.hits = chunk.hits;
  }

  get class(): number {
    return 2 * Math.min(this.hits, HITS_MAX) + Number(this.isEnd);
  }
}

export class Adaptive implements Policy {
  readonly #tier: PolicyTier;
  /** What LRU would hold, and what was used before that. */
  readonly #recent: LRUCache<ChunkKey, Seen>;
  readonly #older: LRUCache<ChunkKey, Seen>;
  readonly #times = new ReturnTimes({ classes: 2 * (HITS_MAX + 1) });
  /** What learning would hold. */
  readonly #learned: ShadowTier<Seen>;
  #goesByLearning = false;
  #isTooLarge = false;
  #uses = 0;
  #learnedAt = 0;
  /** The parent of the chunk used last: a path is told deepest first. */
  #expected: ChunkKey | undefined = undefined;
  /** Uses since the last learning that only learning would have answered, less those that only LRU would. */
  #lead = 0;
  readonly #long = new Lead({ halfLifeCapacities: LONG_HALF_LIFE_CAPACITIES });
  readonly #short = new Lead({ halfLifeCapacities: SHORT_HALF_LIFE_CAPACITIES });

  constructor(tier: PolicyTier) {
    this.#tier = tier;
    this.#recent = new LRUCache({
      maxSize: Math.max(1, Math.floor(tier.capacityBytes)),
      sizeCalculation: (seen) => seen.bytes,
      dispose: (seen, key, reason) => {
        if (reason === 'evict') this.#older.set(key, seen);
      },
    });
    this.#older = new LRUCache({
      maxSize: SEEN_CHUNKS_MAX,
      sizeCalculation: () => 1,
      dispose: (seen, _key, reason) => {
        if (reason === 'evict') this.#times.abandon(seen.wait!, this.#uses);
      },
    });
    this.#learned = new ShadowTier({
      capacityBytes: () => tier.capacityBytes,
      rank: (seen) => this.#rankOf(seen),
    });
  }

  rank(chunk: RankedChunk): number {
    if (!this.#goesByLearning) return chunk.lastUse;
    const seen = this.#find(chunk.key);
    return seen === undefined ? 0 : this.#rankOf(seen);
  }

  added(chunk: RankedChunk, isUse: boolean): void {
    this.#expected = undefined;
    if (this.#isTooLarge || !isUse) return;
    const parent = this.#find(chunk.parent);
    if (parent?.isEnd) {
      parent.isEnd = false;
      parent.wait!.class = parent.class;
    }
    this.#use(chunk, parent, true);
  }

  used(chunk: RankedChunk): void {
    const isEnd = chunk.key !== this.#expected;
    this.#expected = chunk.parent;
    if (!this.#isTooLarge) this.#use(chunk, this.#find(chunk.parent), isEnd);
  }

  #use(chunk: RankedChunk, parent: Seen | undefined, isEnd: boolean): void {
    const now = ++this.#uses;
    const recent = this.#recent.get(chunk.key);
    const known = recent ?? this.#older.get(chunk.key);
    const seen = known ?? new Seen(chunk, parent);
    if (known !== undefined) {
      this.#times.end(known.wait!, now);
      known.hits++;
    }
    seen.isEnd = isEnd;
    seen.usedAt = now;
    seen.wait = this.#times.begin(seen.class, now);
    if (recent === undefined) this.#remember(seen);
    this.#lead += Number(this.#learned.use(seen)) - Number(recent !== undefined);
    const usesMin = Math.max(LEARN_AFTER_USES_MIN, this.#recent.size / LEARNINGS_PER_CAPACITY);
    if (now - this.#learnedAt >= usesMin) this.#learn(now);
  }

  #remember(seen: Seen): void {
    this.#older.delete(seen.key);
    this.#recent.set(seen.key, seen);
    while (this.#recent.calculatedSize > this.#tier.capacityBytes && this.#recent.size > 1)
      this.#recent.pop();
    while (this.#recent.size + this.#older.size > this.#seenMax) this.#older.pop();
  }

  /** Chunks that are remembered at most. */
  get #seenMax(): number {
    const { size } = this.#recent;
    return Math.min(size + Math.max(GHOSTS_MIN, GHOST_CAPACITIES * size), SEEN_CHUNKS_MAX);
  }

  #learn(now: number): void {
    const uses = now - this.#learnedAt;
    this.#learnedAt = now;
    this.#times.learn(now, 2 ** -(uses / (HALF_LIFE * this.#seenMax)));
    this.#learned.movedAll();
    const wentByLearning = this.#goesByLearning;
    this.#goesByLearning = this.#isLearningAhead(uses / this.#recent.size);
    if (this.#recent.size > SEEN_CHUNKS_MAX / 2) this.#giveUp();
    if (this.#goesByLearning || wentByLearning) this.#tier.movedAll();
  }

  #isLearningAhead(capacities: number): boolean {
    this.#long.add(this.#lead, capacities);
    this.#short.add(this.#lead, capacities);
    this.#lead = 0;
    const { long, short } = this.#goesByLearning ? AHEAD.toStay : AHEAD.toEnter;
    return this.#long.deviations > long && this.#short.deviations > short;
  }

  #giveUp(): void {
    this.#isTooLarge = true;
    this.#goesByLearning = false;
    this.#recent.clear();
    this.#older.clear();
  }

  #find(key: ChunkKey | undefined): Seen | undefined {
    return key === undefined ? undefined : (this.#recent.peek(key) ?? this.#older.peek(key));
  }

  #rankOf(seen: Seen): number {
    const worth = this.#times.worth(seen.class, this.#uses - seen.usedAt);
    const step =
      worth > 0 ? Math.max(0, Math.round((Math.log2(worth) + WORTH_OCTAVES) * STEPS_PER_OCTAVE)) : 0;
    return step * USES_MAX + seen.usedAt;
  }
}
