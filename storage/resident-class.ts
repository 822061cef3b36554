/**
 * The chunks of one class in a tier: what they take, and in which order those of them go that may be evicted.
 *
 * Each class has a policy of its own, so that what happens in one tells nothing about another. Of the lowest priority
 * there is, the policy's lowest rank goes first. Decides neither when a chunk has to go nor which class gives it up.
 */

import { EvictionOrder, type Standing } from './eviction-order.js';
import type { ChunkKey } from './key.js';
import { createPolicy, type PolicyName } from './policy/index.js';
import type { Lane, Policy, PolicyTier, RankedChunk } from './policy/policy.js';
import type { Ranking } from './ranking.js';
import type { Entry } from './resident.js';
import type { ResidentOwner } from './resident-owner.js';

export class ResidentClass<Data> implements PolicyTier {
  readonly name: string;
  /** Of the tier's capacity. */
  readonly share: number;
  readonly pinBytesMax: number;
  /** Kept by who counts: chunks present, being written and condemned. */
  count = 0;
  usedBytes = 0;
  pinnedBytes = 0;
  readonly #policy: Policy;
  readonly #bytesToCountOn: (ownBytes: number) => number;
  readonly #entryOf: (key: ChunkKey) => Entry<Data>;
  /** Of the chunks that may be evicted. */
  readonly #order = new EvictionOrder<Data>();
  readonly #owners: Iterable<ResidentOwner<Data>>;

  constructor(options: {
    readonly name: string;
    readonly share: number;
    readonly policy: PolicyName;
    readonly pinBytesMax: number;
    /** What it could take without another class giving way beyond its share. */
    readonly bytesToCountOn: (ownBytes: number) => number;
    readonly entryOf: (key: ChunkKey) => Entry<Data>;
    readonly owners: Iterable<ResidentOwner<Data>>;
  }) {
    this.name = options.name;
    this.share = options.share;
    this.pinBytesMax = options.pinBytesMax;
    this.#bytesToCountOn = options.bytesToCountOn;
    this.#entryOf = options.entryOf;
    this.#owners = options.owners;
    this.#policy = createPolicy(options.policy, this);
  }

  /** As a policy is told. */
  get capacityBytes(): number {
    return this.#bytesToCountOn(this.usedBytes);
  }

  /** Likewise: this one has another rank or lane. */
  moved(chunk: RankedChunk): void {
    this.rank(this.#entryOf(chunk.key));
  }

  /** Likewise: all may have other ranks. */
  movedAll(): void {
    const orders = Array.from(this.#owners, (owner) => owner.orderOf(this) ?? []).flat();
    for (const order of [this.#order, ...orders]) {
      for (const ranking of order.rankings(0)) ranking.revalue((entry) => this.#policy.rank(entry));
    }
  }

  /** The policy hears of a chunk that came, and whether that is a use of it. */
  added(entry: Entry<Data>, isUse: boolean): void {
    this.#policy.added?.(entry, isUse);
    this.rank(entry);
  }

  /** The policy hears of a use. */
  used(entry: Entry<Data>): void {
    this.#policy.used?.(entry);
    this.rank(entry);
  }

  /** The policy hears of a chunk that left; `isEvicted`: to make room. */
  left(entry: Entry<Data>, isEvicted: boolean): void {
    this.#policy.left?.(entry, isEvicted);
  }

  /** Puts a chunk among those that may be evicted, or takes it from there, as things stand. */
  rank(entry: Entry<Data>): void {
    const standing: Standing | undefined = entry.mayBeEvicted
      ? {
          priority: entry.priority,
          lane: this.#policy.lane?.(entry) ?? 0,
          rank: this.#policy.rank(entry),
        }
      : undefined;
    this.#order.place(entry.inClass, standing);
    entry.owner.place(entry, standing);
  }

  /** The chunk that has to go first, in the class or in an order of some of its chunks; undefined when none may. */
  next(order: EvictionOrder<Data> = this.#order): Entry<Data> | undefined {
    for (;;) {
      const leaf = order.first(this.#firstLane());
      if (leaf === undefined || !this.#policy.spare?.(leaf)) return leaf;
      this.rank(leaf);
    }
  }

  /** Those that may be evicted, in the order in which they would be as things stand. */
  *inOrder(): Generator<Entry<Data>, void, undefined> {
    for (const ranking of this.rankings()) for (const { item } of ranking.ascending()) yield item;
  }

  /** In the order in which they give chunks up. */
  rankings(): Generator<Ranking<Entry<Data>>, void, undefined> {
    return this.#order.rankings(this.#firstLane());
  }

  #firstLane(): Lane {
    return this.#policy.firstLane?.() ?? 0;
  }
}
