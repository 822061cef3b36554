/**
 * The host tier as the cache sees it: the radix tree over the chunks whose bytes lie in host memory.
 *
 * Invariants: a chunk that the tree names has bytes in the store, unless it is `lost` (its bytes were found corrupt
 * while it could not be taken out of the tree: leased, or with chunks below it); a lost chunk ends every match, is
 * sealed anew by whoever computes it again, and leaves the tree as soon as it can. A lease holds tree and store
 * alike, so eviction never touches what someone reads. Knows no device memory and no engine.
 */
import assert from 'node:assert/strict';
import { type ChunkId, chunkId, type Lease, RadixTree } from '#radix';
import {
  type Checksum,
  type ChunkKey,
  chunkKey,
  type EvictReason,
  HostStore,
  type KvLayout,
  type Slab,
} from '#storage';
import { systemClock } from '../model/clock.js';

/** A chunk on the way of a lookup: where its bytes are, and how many of its rows agree. */
export interface FoundChunk {
  readonly id: ChunkId;
  readonly slot: number;
  readonly checksum: bigint;
  readonly rows: number;
}

/** Chunks of one prefix, in order, kept from eviction until `release`. */
export interface HostLease {
  readonly found: readonly FoundChunk[];
  /** Rows they cover, from token 0. */
  readonly tokens: number;
  readonly treeLease: Lease;
  readonly keys: readonly ChunkKey[];
}

/** A slot to fill for the chunk `[index * chunkTokens, (index + 1) * chunkTokens)` of a prefix. */
export interface ReservedChunk {
  readonly index: number;
  readonly id: ChunkId;
  readonly key: ChunkKey;
  readonly slot: number;
}

export class HostTier {
  readonly #layout: KvLayout;
  readonly #fingerprint: string;
  readonly #tree: RadixTree;
  readonly #store: HostStore;
  readonly #keys = new Map<ChunkId, ChunkKey>();
  readonly #ids = new Map<ChunkKey, ChunkId>();
  readonly #lost = new Set<ChunkId>();
  readonly #evictions = new Map<EvictReason, number>();
  #nextId = 0;

  constructor(options: {
    readonly layout: KvLayout;
    readonly capacityBytes: number;
    /** Of the model; part of every key. */
    readonly fingerprint: string;
    readonly checksum: Checksum;
  }) {
    const { layout, capacityBytes, checksum } = options;
    this.#layout = layout;
    this.#fingerprint = options.fingerprint;
    this.#tree = new RadixTree({ chunkTokens: layout.chunkTokens });
    this.#store = new HostStore({
      chunkBytes: layout.chunkBytes,
      capacityBytes,
      checksum,
      clock: systemClock,
      onEvict: (key, reason) => this.#onEvict(key, reason),
    });
  }

  get slab(): Slab {
    return this.#store.slab;
  }

  /** The longest readable prefix of `tokens`, leased: of whole chunks, or with rows of the one it leaves midway. */
  acquire(namespace: string, tokens: Int32Array, upTo: 'whole chunks' | 'row'): HostLease {
    const match = this.#tree.match(namespace, tokens);
    const candidates = match.chunks.map((id) => ({ id, rows: this.#layout.chunkTokens }));
    if (upTo === 'row' && match.partial !== undefined)
      candidates.push({ id: match.partial.chunk, rows: match.partial.rows });
    const found: FoundChunk[] = [];
    for (const { id, rows } of candidates) {
      const bytes = this.#lost.has(id) ? undefined : this.#store.lookup(this.#keyOf(id));
      if (bytes === undefined) break;
      found.push({ id, rows, ...bytes });
    }
    const ids = found.map((chunk) => chunk.id);
    const keys = ids.map((id) => this.#keyOf(id));
    for (const key of keys) assert(this.#store.lease(key), 'a found chunk can be leased');
    const treeLease = this.#tree.lease({ chunks: ids });
    return { found, tokens: found.reduce((sum, chunk) => sum + chunk.rows, 0), treeLease, keys };
  }

  release(lease: HostLease): void {
    this.#tree.release(lease.treeLease);
    const deepestFirst = lease.keys.toReversed();
    for (const key of deepestFirst) this.#store.release(key);
    this.#store.touch(deepestFirst);
    this.#sweep();
  }

  /** Forgets the bytes of a chunk that did not match its checksum. It may be leased. */
  condemn(chunk: FoundChunk): void {
    this.#lost.add(chunk.id);
    this.#store.remove(this.#keyOf(chunk.id), 'corrupt');
  }

  /**
   * Slots for the chunks of `tokens` (whole chunks only) after those in `lease`, the whole chunks of the same tokens
   * that are there. Fewer than wanted when the tier is full of leased chunks, and up to the next present chunk where
   * a lost one stands between: with that sealed, the next lease reaches further.
   */
  reserve(namespace: string, tokens: Int32Array, lease: HostLease): ReservedChunk[] {
    const { chunkTokens } = this.#layout;
    const standing = this.#tree.match(namespace, tokens).chunks;
    const reserved: ReservedChunk[] = [];
    let parent = lease.keys.at(-1);
    for (let index = lease.found.length; (index + 1) * chunkTokens <= tokens.length; index++) {
      const own = tokens.subarray(index * chunkTokens, (index + 1) * chunkTokens);
      const key = chunkKey({ fingerprint: this.#fingerprint, salt: namespace, parent, tokens: own });
      const standingId = standing[index];
      const isPresent = standingId !== undefined && this.#keys.has(standingId) && !this.#lost.has(standingId);
      const slot = isPresent ? undefined : this.#store.reserve({ key, parent, namespace, tokens: own });
      if (slot === undefined) break;
      reserved.push({ index, id: standingId ?? chunkId(this.#nextId++), key, slot });
      parent = key;
    }
    return reserved;
  }

  /** The reserved slots are filled: their chunks can be found from now on. `lease` is that of `reserve`. */
  commit(
    namespace: string,
    tokens: Int32Array,
    sealed: {
      readonly lease: HostLease;
      readonly chunks: readonly ReservedChunk[];
      readonly checksums: readonly bigint[];
    },
  ): void {
    const { lease, chunks, checksums } = sealed;
    const path = lease.found.map((chunk) => chunk.id);
    for (const [i, chunk] of chunks.entries()) {
      this.#store.commit(chunk.key, checksums[i]!);
      this.#lost.delete(chunk.id);
      this.#keys.set(chunk.id, chunk.key);
      this.#ids.set(chunk.key, chunk.id);
      path.push(chunk.id);
    }
    const { duplicates } = this.#tree.insert(namespace, tokens, path);
    assert.equal(duplicates.length, 0, 'what stands already was found before it was sealed');
    this.#store.touch(path.map((id) => this.#keyOf(id)).toReversed());
  }

  /** Gives reserved slots back. */
  abort(chunks: readonly ReservedChunk[]): void {
    for (const chunk of chunks) this.#store.abort(chunk.key);
  }

  /** Bytes, chunks and evictions since the start. */
  reading() {
    const { nodes, chunks } = this.#tree.stats();
    return {
      bytes: this.#store.usedBytes,
      capacityBytes: this.#store.capacityBytes,
      chunks: this.#keys.size,
      nodes,
      treeChunks: chunks,
      evictions: [...this.#evictions].map(([reason, count]) => ({ tier: 'host', reason, count })),
    };
  }

  /** Leases that are held; recounts the tree's invariants. For tests and idle times. */
  audit(): { readonly leases: number } {
    this.#tree.audit();
    return { leases: this.#tree.stats().leases };
  }

  async close(): Promise<void> {
    await this.#store.close();
  }

  #onEvict(key: ChunkKey, reason: EvictReason): void {
    this.#evictions.set(reason, (this.#evictions.get(reason) ?? 0) + 1);
    const id = this.#ids.get(key);
    assert(id !== undefined, 'the store holds named chunks only');
    if (this.#lost.has(id) || reason === 'closed') return;
    this.#sweep();
    this.#forget(id);
  }

  /** Takes lost chunks out of the tree, where nothing below them or reading them is left. */
  #sweep(): void {
    const removable = [...this.#lost].filter((id) => this.#tree.isRemovable(id));
    for (const id of removable) {
      this.#forget(id);
      this.#lost.delete(id);
    }
    // What stood above them may be removable now.
    if (removable.length > 0) this.#sweep();
  }

  #forget(id: ChunkId): void {
    this.#tree.remove(id);
    this.#ids.delete(this.#keyOf(id));
    this.#keys.delete(id);
  }

  #keyOf(id: ChunkId): ChunkKey {
    const key = this.#keys.get(id);
    assert(key !== undefined, 'a chunk of the tree has a key');
    return key;
  }
}
