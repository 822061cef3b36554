/**
 * The classes of a tier's chunks, what each takes, and which has to give way.
 *
 * Invariant: bytes and counts are those of the chunks that were counted in and not out, by class and in all. Decides
 * nothing within a class.
 */
import assert from 'node:assert/strict';
import type { ChunkKey } from './key.js';
import type { PolicyName } from './policy/index.js';
import type { Entry } from './resident.js';
import { ResidentClass } from './resident-class.js';
import type { ResidentOwner } from './resident-owner.js';
import { type ClassHolding, requireShares, type Shares } from './shares.js';

export class ResidentClasses<Data> {
  readonly #capacityBytes: number;
  readonly #pinShare: number;
  readonly #classOf: Shares['classOf'];
  readonly #classes: ReadonlyMap<string, ResidentClass<Data>>;
  #usedBytes = 0;
  #pinnedBytes = 0;

  constructor(options: {
    readonly capacityBytes: number;
    readonly shares: Shares;
    readonly policy: PolicyName;
    /** Of a class's share. */
    readonly pinShare: number;
    readonly entryOf: (key: ChunkKey) => Entry<Data>;
    readonly owners: Iterable<ResidentOwner<Data>>;
  }) {
    const { capacityBytes, shares, policy, pinShare, entryOf, owners } = options;
    requireShares(shares);
    this.#pinShare = pinShare;
    this.#capacityBytes = capacityBytes;
    this.#classOf = shares.classOf;
    const create = (name: string, share: number): ResidentClass<Data> => {
      const shareBytes = share * capacityBytes;
      return new ResidentClass({
        name,
        share,
        policy,
        pinBytesMax: shareBytes * pinShare,
        bytesToCountOn: (ownBytes) => Math.max(shareBytes, capacityBytes - (this.#usedBytes - ownBytes)),
        entryOf,
        owners,
      });
    };
    this.#classes = new Map(Object.entries(shares.of).map(([name, share]) => [name, create(name, share)]));
  }

  /** Of all classes. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Likewise. */
  get pinnedBytes(): number {
    return this.#pinnedBytes;
  }

  /** The class of the chunks of a namespace. */
  of(namespace: string): ResidentClass<Data> {
    const found = this.#classes.get(this.#classOf(namespace));
    assert(found !== undefined, 'a class has a share');
    return found;
  }

  *[Symbol.iterator](): Generator<ResidentClass<Data>, void, undefined> {
    yield* this.#classes.values();
  }

  /** A chunk came, or its bytes are free. */
  count(entry: Entry<Data>, change: 1 | -1): void {
    this.#usedBytes += change * entry.bytes;
    entry.class.usedBytes += change * entry.bytes;
    entry.class.count += change;
    entry.owner.counted(entry, change);
  }

  /** A chunk was pinned, or is no more. */
  countPinned(entry: Entry<Data>, change: 1 | -1): void {
    this.#pinnedBytes += change * entry.bytes;
    entry.class.pinnedBytes += change * entry.bytes;
    entry.owner.pinnedBytes += change * entry.bytes;
  }

  /** Whether these, not pinned yet, may be: all of them. */
  mayPin(entries: readonly Entry<Data>[]): boolean {
    const byClass = bytesBy(entries, (entry) => entry.class);
    const byOwner = bytesBy(entries, (entry) => entry.owner);
    return (
      [...byClass].every(([each, bytes]) => each.pinnedBytes + bytes <= each.pinBytesMax) &&
      [...byOwner].every(([{ pinnedBytes, quotaBytes = Infinity }, bytes]) => {
        return pinnedBytes + bytes <= quotaBytes * this.#pinShare;
      })
    );
  }

  /**
   * Those that give chunks up, one after another, when the tier has room for `capacityBytes`: what takes most beyond its
   * share of that first. For a newcomer only what has too much, and then its own class. With an owner, of what that one
   * takes, and may take.
   */
  giving(
    capacityBytes: number,
    newcomer?: ResidentClass<Data>,
    owner?: ResidentOwner<Data>,
  ): readonly ResidentClass<Data>[] {
    const classes = [...this.#classes.values()];
    if (classes.length === 1) return classes;
    const excess = (each: ResidentClass<Data>): number =>
      (owner?.bytesOf(each) ?? each.usedBytes) - each.share * capacityBytes;
    classes.sort((a, b) => excess(b) - excess(a));
    if (newcomer === undefined) return classes;
    const tooLarge = classes.filter((each) => excess(each) > 0);
    return tooLarge.includes(newcomer) ? tooLarge : [...tooLarge, newcomer];
  }

  /** By name. */
  holdings(): Record<string, ClassHolding> {
    const holdings = [...this.#classes.values()].map(({ name, share, usedBytes: bytes, count: chunks }) => {
      return [name, { bytes, chunks, shareBytes: Math.floor(share * this.#capacityBytes) }] as const;
    });
    return Object.fromEntries(holdings);
  }
}

function bytesBy<Data, Key>(
  entries: readonly Entry<Data>[],
  keyOf: (entry: Entry<Data>) => Key,
): ReadonlyMap<Key, number> {
  const bytes = new Map<Key, number>();
  for (const entry of entries) bytes.set(keyOf(entry), (bytes.get(keyOf(entry)) ?? 0) + entry.bytes);
  return bytes;
}
