/**
 * The cached prefixes: the radix tree over the chunks whose bytes lie in the tiers below the device.
 *
 * Invariants: a chunk that the tree names is in some tier, or on a disk that opens again, unless it is `lost` (its last
 * copy went while it could not be taken out of the tree: leased, or with chunks below it); a lost chunk ends every
 * match, is sealed anew by whoever computes it again, and leaves the tree as soon as it can. A lease holds tree and
 * store alike, so eviction never touches what someone reads. Knows no device memory and no engine.
 */
import assert from 'node:assert/strict';
import {
  type ChunkId,
  chunkId,
  type Lease,
  type NodeOutline,
  type Parting,
  type Place,
  RadixTree,
} from '#radix';
import {
  type ChunkIdentity,
  type ChunkKey,
  type ChunkLife,
  chunkKey,
  type EvictReason,
  isEviction,
  type KvLayout,
  type PinOutcome,
  type Retention,
  type Slab,
  type TieredStore,
  type TierName,
} from '#storage';
import type { CacheEvents } from './cache-events.js';
import type { ChunkLives } from './chunk-lives.js';

/** A chunk on the way of a lookup, and how many of its rows agree. */
export interface FoundChunk {
  readonly id: ChunkId;
  readonly key: ChunkKey;
  readonly rows: number;
  /** False: it came through a lossy codec, so that it is not for a request that wants exactly what it would compute. */
  readonly isExact: boolean;
}

/** Chunks of one prefix, in order, kept from eviction until `release`. */
export interface PrefixLease {
  readonly found: readonly FoundChunk[];
  /** Rows they cover, from token 0. */
  readonly tokens: number;
  readonly treeLease: Lease;
}

/** A found chunk in host memory. */
export interface ReadableChunk extends FoundChunk {
  readonly slot: number;
  readonly checksum: bigint;
}

/** The part of a prefix, whole chunks, from token `from` (default 0) on. */
export interface Stretch {
  readonly namespace: string;
  readonly tokens: Int32Array;
  readonly from?: number;
}

/** Rows of a prefix that stand in one node of the tree. */
export interface NodeRows {
  /** Of its first chunk, which stays when the node is split. */
  readonly key: ChunkKey;
  /** Rows before it. */
  readonly start: number;
  readonly rows: number;
}

/** A slot to fill for the chunk `[index * chunkTokens, (index + 1) * chunkTokens)` of a prefix. */
export interface ReservedChunk {
  readonly index: number;
  readonly id: ChunkId;
  readonly key: ChunkKey;
  readonly slot: number;
}

/** A node of the tree; of its chunks, those in the fastest tier that has them. */
export interface OutlinedNode extends NodeOutline {
  readonly inHost: number;
  readonly onDisk: number;
}

/** What became of a chunk that was to be taken in. */
export type TakenIn = 'imported' | 'present' | 'no_parent' | 'no_room';

/** What became of chunks that were to go. */
export interface ClearedChunks {
  readonly chunks: number;
  /** Of these, those that someone reads: their bytes go when that ends. */
  readonly inUse: number;
  /** That stayed: pinned, or before a pinned one. */
  readonly pinned: number;
  /** That stayed: others go on from them. */
  readonly shared: number;
}

/** A slot of host memory that holds no chunk. */
export interface BorrowedSlot {
  readonly key: ChunkKey;
  readonly slot: number;
}

/** What makes the store of a cache, which tells it what left. */
export type CreateStore = (on: {
  /** A chunk left the last tier that had it. */
  readonly evict: (key: ChunkKey, reason: EvictReason, life: ChunkLife, tier: TierName) => void;
  /** A chunk left one tier. */
  readonly tierEvict: (tier: TierName, key: ChunkKey, reason: EvictReason, life: ChunkLife) => void;
  /** A tier has a chunk now that another one has too. */
  readonly tierCopy: (tier: TierName, key: ChunkKey) => void;
  /** These chunks can be found from now on, parents first: an earlier process stored them. */
  readonly loaded: (chunks: readonly ChunkIdentity[]) => void;
}) => TieredStore;

export class PrefixCache {
  readonly #layout: KvLayout;
  readonly #fingerprint: string;
  readonly #events: CacheEvents | undefined;
  readonly #lives: ChunkLives | undefined;
  readonly #tree: RadixTree;
  readonly #store: TieredStore;
  readonly #keys = new Map<ChunkId, ChunkKey>();
  readonly #ids = new Map<ChunkKey, ChunkId>();
  readonly #lost = new Set<ChunkId>();
  readonly #evictions = new Map<string, { tier: TierName; reason: EvictReason; count: number }>();
  #nextId = 0;
  #nextBorrowed = 0;

  constructor(options: {
    readonly layout: KvLayout;
    /** Of the model; part of every key. */
    readonly fingerprint: string;
    readonly store: CreateStore;
    /** Told what happens to chunks. */
    readonly events?: CacheEvents;
    /** Told how long chunks lived, and which ones were missed. */
    readonly lives?: ChunkLives;
  }) {
    this.#layout = options.layout;
    this.#fingerprint = options.fingerprint;
    this.#events = options.events;
    this.#lives = options.lives;
    this.#tree = new RadixTree({ chunkTokens: this.#layout.chunkTokens });
    this.#store = options.store({
      evict: (key, reason, _life, tier) => this.#onEvict(key, reason, tier),
      tierEvict: (tier, key, reason, life) => this.#onTierEvict(tier, key, reason, life),
      tierCopy: (tier, key) => this.#onTierCopy(tier, key),
      loaded: (chunks) => this.#onLoaded(chunks),
    });
  }

  get slab(): Slab {
    return this.#store.host.slab;
  }

  /** Of host memory. */
  get capacityBytes(): number {
    return this.#store.host.capacityBytes;
  }

  /** The longest cached prefix of `tokens`, leased: of whole chunks, or with rows of the one it leaves midway. */
  acquire(
    namespace: string,
    tokens: Int32Array,
    upTo: 'whole chunks' | 'row',
    { isExactOnly = false }: { readonly isExactOnly?: boolean } = {},
  ): PrefixLease {
    const match = this.#tree.match(namespace, tokens);
    const candidates = match.chunks.map((id) => ({ id, rows: this.#layout.chunkTokens }));
    if (upTo === 'row' && match.partial !== undefined)
      candidates.push({ id: match.partial.chunk, rows: match.partial.rows });
    const found: FoundChunk[] = [];
    for (const { id, rows } of candidates) {
      const key = this.#keyOf(id);
      if (this.#lost.has(id)) break;
      const isExact = this.#store.exactOf(key) ?? false;
      if ((isExactOnly && !isExact) || !this.#store.lease(key)) break;
      found.push({ id, key, rows, isExact });
    }
    const treeLease = this.#tree.lease({ chunks: found.map((chunk) => chunk.id) });
    return { found, tokens: rowsOf(found), treeLease };
  }

  release(lease: PrefixLease): void {
    this.#tree.release(lease.treeLease);
    for (const { key } of lease.found) this.#store.release(key);
    this.#sweep();
  }

  /** A request uses the chunks: they count as used once, their TTL and pins are renewed. */
  use(chunks: readonly FoundChunk[]): void {
    this.#store.touch(chunks.map((chunk) => chunk.key).toReversed());
  }

  /** The chunks of a lease by the nodes that they stand in. */
  byNode(found: readonly FoundChunk[]): NodeRows[] {
    const counts = this.#tree.nodesOf(found.map(({ id }) => id));
    let [first, start] = [0, 0];
    return counts.map((count) => {
      const rows = rowsOf(found.slice(first, first + count));
      const node = { key: found[first]!.key, start, rows };
      first += count;
      start += rows;
      return node;
    });
  }

  isInHost({ key }: FoundChunk): boolean {
    return this.#store.tierOf(key) === 'host';
  }

  /** The chunks of a lease from index `first` on that lie in host memory now, up to one that does not. */
  readable(lease: PrefixLease, first: number): ReadableChunk[] {
    const readable: ReadableChunk[] = [];
    for (const chunk of lease.found.slice(first)) {
      const place = this.#store.lookup(chunk.key);
      if (place === undefined) break;
      readable.push({ ...chunk, ...place });
    }
    return readable;
  }

  /** Brings a found chunk into host memory. Whether it is there now; false: it is a miss. */
  async promote(chunk: FoundChunk): Promise<boolean> {
    return (await this.#store.promote(chunk.key)) === 'hit';
  }

  /** Forgets the bytes in host memory that did not match their checksum. The chunk may be leased. */
  condemn(chunk: FoundChunk): void {
    this.#store.condemnHostCopy(chunk.key);
  }

  /**
   * Slots for the chunks of `tokens` (whole chunks only) after those in `lease`, the whole chunks of the same tokens
   * that are there. Fewer than wanted when the tier is full of leased chunks, and up to the next present chunk where
   * a lost one stands between: with that sealed, the next lease reaches further.
   */
  reserve(namespace: string, tokens: Int32Array, lease: PrefixLease): ReservedChunk[] {
    const { chunkTokens } = this.#layout;
    const standing = this.#tree.match(namespace, tokens).chunks;
    const reserved: ReservedChunk[] = [];
    let parent = lease.found.at(-1)?.key;
    for (let index = lease.found.length; (index + 1) * chunkTokens <= tokens.length; index++) {
      const own = tokens.slice(index * chunkTokens, (index + 1) * chunkTokens);
      const key = chunkKey({ fingerprint: this.#fingerprint, salt: namespace, parent, tokens: own });
      const standingId = standing[index];
      const isLost = standingId === undefined || this.#lost.has(standingId) || !this.#store.has(key);
      const slot = isLost ? this.#store.reserve({ key, parent, namespace, tokens: own }) : undefined;
      if (slot === undefined) break;
      reserved.push({ index, id: standingId ?? chunkId(this.#nextId++), key, slot });
      parent = key;
    }
    return reserved;
  }

  /** The chunks of `tokens` (whole chunks only) after those in `lease`, at most `count`: what they would be. */
  following(namespace: string, tokens: Int32Array, lease: PrefixLease, count: number): ChunkIdentity[] {
    const { chunkTokens } = this.#layout;
    const chunks: ChunkIdentity[] = [];
    let parent = lease.found.at(-1)?.key;
    const wholeEnd = Math.floor(tokens.length / chunkTokens);
    const end = Math.min(wholeEnd, lease.found.length + count);
    for (let index = lease.found.length; index < end; index++) {
      const own = tokens.slice(index * chunkTokens, (index + 1) * chunkTokens);
      const key = chunkKey({ fingerprint: this.#fingerprint, salt: namespace, parent, tokens: own });
      chunks.push({ key, parent, namespace, tokens: own });
      parent = key;
    }
    return chunks;
  }

  /**
   * The reserved slots are filled: their chunks can be found from now on. `lease` is that of `reserve`.
   *
   * @returns tokens that were computed only since they had been evicted, in whole chunks, by the tier that had them last
   */
  commit(
    namespace: string,
    tokens: Int32Array,
    sealed: {
      readonly lease: PrefixLease;
      readonly chunks: readonly ReservedChunk[];
      readonly checksums: readonly bigint[];
      /** Rows of the prefix that are exactly what any prefill computes; absent: all. */
      readonly exactTokens?: number;
      /** How they came: computed, which is a use, or from the remote tier. Default `computed`. */
      readonly cause?: 'computed' | 'promoted';
    },
  ): Record<TierName, number> {
    const { lease, chunks, checksums, exactTokens = tokens.length, cause = 'computed' } = sealed;
    const path = lease.found.map((chunk) => chunk.id);
    const regretted = { host: 0, disk: 0 };
    for (const [i, chunk] of chunks.entries()) {
      const isExact = (chunk.index + 1) * this.#layout.chunkTokens <= exactTokens;
      if (!this.#store.commit(chunk.key, checksums[i]!, { isExact, isUse: cause === 'computed' })) continue;
      // It may have been found on disk while it was made here.
      const id = this.#ids.get(chunk.key) ?? chunk.id;
      this.#lost.delete(id);
      this.#name(id, chunk.key);
      path.push(id);
      if (cause !== 'computed') continue;
      const tier = this.#lives?.computed(chunk.key);
      if (tier !== undefined) regretted[tier] += this.#layout.chunkTokens;
    }
    const { duplicates } = this.#tree.insert(namespace, tokens, path);
    assert.equal(duplicates.length, 0, 'what stands already was found before it was sealed');
    this.#tellStored(namespace, tokens, chunks.slice(0, path.length - lease.found.length), cause);
    return regretted;
  }

  /** Slots of host memory for bytes of no chunk, at most `count`: as many as there is room for. End with `abort`. */
  borrow(namespace: string, count: number): BorrowedSlot[] {
    const borrowed: BorrowedSlot[] = [];
    const tokens = new Int32Array(this.#layout.chunkTokens);
    while (borrowed.length < count) {
      const salt = `borrowed:${this.#nextBorrowed++}`;
      const key = chunkKey({ fingerprint: this.#fingerprint, salt, parent: undefined, tokens });
      const slot = this.#store.reserve({ key, parent: undefined, namespace, tokens });
      if (slot === undefined) break;
      borrowed.push({ key, slot });
    }
    return borrowed;
  }

  #tellStored(
    namespace: string,
    tokens: Int32Array,
    chunks: readonly ReservedChunk[],
    cause: 'computed' | 'promoted',
  ): void {
    const [first] = chunks;
    if (this.#events === undefined || first === undefined) return;
    const { chunkTokens } = this.#layout;
    const start = first.index * chunkTokens;
    this.#events.emit({
      type: 'stored',
      namespace,
      tier: 'host',
      cause,
      keys: chunks.map(({ key }) => key),
      parent: this.#store.identity(first.key)?.parent,
      tokens: tokens.slice(start, start + chunks.length * chunkTokens),
    });
  }

  /** Gives reserved or borrowed slots back. */
  abort(chunks: readonly Pick<ReservedChunk, 'key'>[]): void {
    for (const chunk of chunks) this.#store.abort(chunk.key);
  }

  /** Keeps the chunks of a stretch that are there as `ChunkStore.retain` says; where stretches share some, the last word counts. */
  retain(stretch: Stretch, retention: Retention): void {
    this.#store.retain(this.#chunksOf(stretch), retention);
  }

  /** Pins the chunks of a stretch, all or none: see `ChunkStore.pin`. */
  pin(stretch: Stretch, options: { readonly ttlMs: number }): PinOutcome {
    const { tokens, from = 0 } = stretch;
    const chunks = this.#chunksOf(stretch);
    return chunks.length * this.#layout.chunkTokens < tokens.length - from
      ? 'missing'
      : this.#store.pin(chunks, options);
  }

  /** Whether all chunks of a stretch are pinned, each in some tier. */
  isPinned(stretch: Stretch): boolean {
    const { tokens, from = 0 } = stretch;
    const chunks = this.#chunksOf(stretch);
    const isWhole = chunks.length * this.#layout.chunkTokens >= tokens.length - from;
    return isWhole && chunks.every((key) => this.#store.isPinned(key));
  }

  unpin(stretch: Stretch): void {
    this.#store.unpin(this.#chunksOf(stretch));
  }

  /**
   * Forgets the chunks of `tokens` that no other prefix needs, in every tier, pinned or not. They are found no more;
   * what someone has leased is read to the end.
   */
  forget(namespace: string, tokens: Int32Array): void {
    const keys = this.#tree.ownChunks(namespace, tokens).map((id) => this.#keyOf(id));
    for (const key of keys) this.#store.remove(key, 'deleted');
  }

  /**
   * Forgets the chunks of a namespace, or those of a prefix and of what goes on from it, in every tier or in one. Pinned
   * ones and what they stand behind stay; what someone has leased is found no more, and read to the end. Of the remote
   * tier, where nothing is pinned, those that a tier here has too: no others are known.
   */
  clear(
    namespace: string,
    {
      tier,
      prefix,
    }: { readonly tier?: TierName | 'remote' | undefined; readonly prefix?: Int32Array | undefined } = {},
  ): ClearedChunks {
    const { shared, own } =
      prefix === undefined
        ? { shared: [], own: this.#tree.chunksOf(namespace) }
        : this.#tree.chunksAlong(namespace, prefix);
    const isThere = (key: ChunkKey) => this.#store.isIn(tier, key);
    const cleared = {
      chunks: 0,
      inUse: 0,
      pinned: 0,
      shared: shared.filter((id) => isThere(this.#keyOf(id))).length,
    };
    const needed = new Set<ChunkKey | undefined>();
    for (const key of own.map((id) => this.#keyOf(id)).toReversed()) {
      if (!isThere(key)) continue;
      if (needed.has(key) || this.#store.isPinned(key, tier)) {
        cleared.pinned++;
        needed.add(this.#store.identity(key)?.parent);
        continue;
      }
      if (tier !== 'remote' && this.#store.isLeased(key)) cleared.inUse++;
      if (this.#store.remove(key, 'deleted', tier)) cleared.chunks++;
    }
    if (tier === undefined && prefix === undefined) this.#lives?.forget(namespace);
    const isAll = tier === undefined && prefix === undefined && cleared.pinned === 0;
    if (isAll && cleared.chunks > 0) this.#events?.emit({ type: 'cleared', namespace });
    return cleared;
  }

  /** The chunks of a namespace, or the whole ones of a prefix in it; each after its parent. Not a use. */
  chunksOf(namespace: string, prefix?: Int32Array): ChunkIdentity[] {
    const ids =
      prefix === undefined ? this.#tree.chunksOf(namespace) : this.#tree.match(namespace, prefix).chunks;
    return ids.flatMap((id) => this.#store.identity(this.#keyOf(id)) ?? []);
  }

  /** Reads a chunk where it is. Undefined: it is gone, or not sound. Not a use. */
  async copy(key: ChunkKey, into: Uint8Array): Promise<{ checksum: bigint; isExact: boolean } | undefined> {
    if (!this.#store.lease(key)) return undefined;
    try {
      const found = await this.#store.copy(key, into);
      return found.outcome === 'hit' ? { checksum: found.checksum, isExact: found.isExact } : undefined;
    } finally {
      this.#store.release(key);
    }
  }

  /**
   * Takes in a chunk that was computed elsewhere, behind one that is here.
   *
   * @returns its key, and what became of it: `no_parent` is not here, `no_room` can be made
   */
  async takeIn(
    chunk: Omit<ChunkIdentity, 'key'>,
    copy: { readonly bytes: Uint8Array; readonly checksum: bigint; readonly isExact: boolean },
  ): Promise<{ readonly key: ChunkKey; readonly outcome: TakenIn }> {
    const { namespace, parent, tokens } = chunk;
    const key = chunkKey({ fingerprint: this.#fingerprint, salt: namespace, parent, tokens });
    if (!this.#isAbove(parent)) return { key, outcome: 'no_parent' };
    const { bytes, ...seal } = copy;
    const stored = await this.#store.takeIn({ key, ...chunk }, bytes, seal);
    if (stored === 'present') return { key, outcome: this.#ids.has(key) ? 'present' : 'no_room' };
    if (stored !== 'stored') return { key, outcome: 'no_room' };
    if (!this.#isAbove(parent)) {
      this.#store.remove(key, 'deleted');
      return { key, outcome: 'no_parent' };
    }
    const tier = this.#store.tierOf(key);
    if (tier === undefined) return { key, outcome: 'no_room' };
    this.#stand({ key, ...chunk }, tier, 'imported');
    return { key, outcome: 'imported' };
  }

  /** Bytes that what is taken in may fill. */
  get takeInCapacityBytes(): number {
    return this.#store.takeInCapacityBytes;
  }

  #isAbove(parent: ChunkKey | undefined): boolean {
    return parent === undefined || this.#ids.has(parent);
  }

  /** Every namespace that has chunks. */
  namespaces(): string[] {
    return this.#tree.namespaces();
  }

  /** As `RadixTree.parting`. */
  parting(namespace: string, tokens: Int32Array, count: number): Parting {
    return this.#tree.parting(namespace, tokens, count);
  }

  /** The nodes below a place, with how many of their chunks lie where. */
  outline(namespace: string, place: Place): OutlinedNode[] {
    return this.#tree.outline(namespace, place).map((node) => {
      const tiers = node.chunks.map((id) => this.#store.tierOf(this.#keyOf(id)));
      const inTier = (tier: TierName) => tiers.filter((each) => each === tier).length;
      return { ...node, inHost: inTier('host'), onDisk: inTier('disk') };
    });
  }

  /** Bytes, chunks and counts since the start. */
  reading() {
    const { nodes, chunks } = this.#tree.stats();
    return {
      tiers: this.#store.tiers(),
      store: this.#store.reading(),
      chunks: this.#keys.size,
      nodes,
      treeChunks: chunks,
      evictions: [...this.#evictions.values()],
      lives: this.#lives?.reading(),
    };
  }

  /** Leases that are held; recounts the tree's invariants. For tests and idle times. */
  audit(): { readonly leases: number } {
    this.#tree.audit();
    return { leases: this.#tree.stats().leases };
  }

  /** Resolves when what the disk holds can be found; rejects when that can never be. */
  get opened(): Promise<void> {
    return this.#store.opened;
  }

  /** Up to `count` keys of chunks that are cached, the same ones as long as they are. */
  someKeys(count: number): ChunkKey[] {
    const keys: ChunkKey[] = [];
    for (const key of this.#ids.keys()) {
      if (keys.length === count) break;
      keys.push(key);
    }
    return keys;
  }

  /** Each comes after its parent, which is in the tree as long as a tier has it. */
  #onLoaded(chunks: readonly ChunkIdentity[]): void {
    for (const chunk of chunks) this.#stand(chunk, 'disk', 'loaded');
  }

  /** A chunk that a tier has can be found from now on. */
  #stand(
    { key, parent, namespace, tokens }: ChunkIdentity,
    tier: TierName,
    cause: 'loaded' | 'imported',
  ): void {
    this.#events?.emit({ type: 'stored', namespace, tier, cause, keys: [key], parent, tokens });
    const standing = this.#ids.get(key);
    if (standing !== undefined) {
      this.#lost.delete(standing);
      return;
    }
    const above = parent === undefined ? undefined : this.#ids.get(parent);
    assert(parent === undefined || above !== undefined, 'a chunk comes after its parent');
    const id = chunkId(this.#nextId++);
    this.#name(id, key);
    const stands = this.#tree.append({ namespace, parent: above, tokens, id });
    assert.equal(stands, id, 'a key names one place in the tree');
  }

  #onEvict(key: ChunkKey, reason: EvictReason, tier: TierName): void {
    const id = this.#ids.get(key);
    if (id === undefined || reason === 'closed') return;
    if (isEviction(reason)) this.#lives?.gone(key, this.#tree.namespaceOf(id), tier);
    this.#lost.add(id);
    this.#sweep();
  }

  /** The remote tier has a chunk that is here too. */
  storedRemotely({ key, namespace, parent, tokens }: ChunkIdentity): void {
    const keys = [key];
    this.#events?.emit({ type: 'stored', namespace, tier: 'remote', cause: 'demoted', keys, parent, tokens });
  }

  #onTierEvict(tier: TierName, key: ChunkKey, reason: EvictReason, life: ChunkLife): void {
    this.#countEviction(tier, reason);
    if (isEviction(reason)) this.#lives?.left(tier, life);
    const id = this.#ids.get(key);
    if (id === undefined || reason === 'closed') return;
    this.#events?.emit({ type: 'removed', namespace: this.#tree.namespaceOf(id), tier, key, reason });
  }

  #onTierCopy(tier: TierName, key: ChunkKey): void {
    const chunk = this.#events && this.#store.identity(key);
    if (chunk === undefined) return;
    const { namespace, parent, tokens } = chunk;
    const cause = tier === 'host' ? 'promoted' : 'demoted';
    this.#events!.emit({ type: 'stored', namespace, tier, cause, keys: [key], parent, tokens });
  }

  #countEviction(tier: TierName, reason: EvictReason): void {
    const name = `${tier} ${reason}`;
    const counter = this.#evictions.get(name) ?? { tier, reason, count: 0 };
    counter.count++;
    this.#evictions.set(name, counter);
  }

  /** Takes lost chunks out of the tree, where nothing below them or reading them is left. */
  #sweep(): void {
    const removable = [...this.#lost].filter((id) => this.#tree.isRemovable(id));
    for (const id of removable) {
      this.#tree.remove(id);
      this.#ids.delete(this.#keyOf(id));
      this.#keys.delete(id);
      this.#lost.delete(id);
    }
    // What stood above them may be removable now.
    if (removable.length > 0) this.#sweep();
  }

  /** The chunks of a stretch that are in the tree, deepest first. */
  #chunksOf({ namespace, tokens, from = 0 }: Stretch): ChunkKey[] {
    const { chunks } = this.#tree.match(namespace, tokens);
    return chunks
      .slice(from / this.#layout.chunkTokens)
      .map((id) => this.#keyOf(id))
      .toReversed();
  }

  #name(id: ChunkId, key: ChunkKey): void {
    this.#keys.set(id, key);
    this.#ids.set(key, id);
  }

  #keyOf(id: ChunkId): ChunkKey {
    const key = this.#keys.get(id);
    assert(key !== undefined, 'a chunk of the tree has a key');
    return key;
  }
}

/** Rows that agree, of all the chunks. */
export function rowsOf(chunks: readonly FoundChunk[]): number {
  return chunks.reduce((sum, chunk) => sum + chunk.rows, 0);
}
