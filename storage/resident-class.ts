/**
 * The chunks of one class in a tier: what they take, and in which order those of them go that may be evicted.
 *
 * Each class has a policy of its own, so that what happens in one tells nothing about another. Of the lowest priority
 * there is, the policy's lowest rank goes first. Decides neither when a chunk has to go nor which class gives it up.
 */
import type { ChunkKey } from './key.js';
import { createPolicy, type PolicyName } from './policy/index.js';
import type { Policy, PolicyTier, RankedChunk } from './policy/policy.js';
import { Ranking } from './ranking.js';
import type { Entry } from './resident.js';

/** By the number of the lane. */
type Lanes<Data> = readonly [Ranking<Entry<Data>>, Ranking<Entry<Data>>];

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
  /** The chunks that may be evicted, by priority and lane of the policy. */
  readonly #leaves = new Map<number, Lanes<Data>>();
  /** The keys of `#leaves`, ascending. */
  #priorities: number[] = [];

  constructor(options: {
    readonly name: string;
    readonly share: number;
    readonly policy: PolicyName;
    readonly pinBytesMax: number;
    /** What it could take without another class giving way beyond its share. */
    readonly bytesToCountOn: (ownBytes: number) => number;
    readonly entryOf: (key: ChunkKey) => Entry<Data>;
  }) {
    this.name = options.name;
    this.share = options.share;
    this.pinBytesMax = options.pinBytesMax;
    this.#bytesToCountOn = options.bytesToCountOn;
    this.#entryOf = options.entryOf;
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
    for (const ranking of this.rankings()) ranking.revalue((entry) => this.#policy.rank(entry));
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
    const leaves = entry.mayBeEvicted
      ? this.#lanesOf(entry.priority)[this.#policy.lane?.(entry) ?? 0]
      : undefined;
    if (entry.leaves !== leaves) entry.leaves?.delete(entry.leaf);
    entry.leaves = leaves;
    leaves?.set(entry.leaf, this.#policy.rank(entry));
  }

  /** The chunk that has to go first; undefined when none may. */
  next(): Entry<Data> | undefined {
    for (;;) {
      const leaf = this.#lowest();
      if (leaf === undefined || !this.#policy.spare?.(leaf)) return leaf;
      this.rank(leaf);
    }
  }

  /** Those that may be evicted, in the order in which they would be as things stand. */
  *inOrder(): Generator<Entry<Data>, void, undefined> {
    for (const ranking of this.rankings()) for (const { item } of ranking.ascending()) yield item;
  }

  /** In the order in which they give chunks up. */
  *rankings(): Generator<Ranking<Entry<Data>>, void, undefined> {
    const [first, second] = (this.#policy.firstLane?.() ?? 0) === 0 ? ([0, 1] as const) : ([1, 0] as const);
    for (const priority of this.#priorities) {
      const lanes = this.#leaves.get(priority)!;
      yield lanes[first];
      yield lanes[second];
    }
  }

  #lowest(): Entry<Data> | undefined {
    for (const { first } of this.rankings()) if (first !== undefined) return first.item;
    return undefined;
  }

  #lanesOf(priority: number): Lanes<Data> {
    let lanes = this.#leaves.get(priority);
    if (lanes === undefined) {
      lanes = [new Ranking(), new Ranking()];
      this.#leaves.set(priority, lanes);
      this.#priorities = [...this.#leaves.keys()].sort((a, b) => a - b);
    }
    return lanes;
  }
}
