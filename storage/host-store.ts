/**
 * The host tier: chunks in a slab of shared memory, whose bytes another thread may copy in and out.
 *
 * Sealing a chunk, step by step (the owner's thread; only step 2 is the other thread's):
 * 1. `reserve(key)` gives a slot, evicting if need be. The chunk cannot be found yet.
 * 2. The other thread fills the slot (`slotBytes`) and computes the checksum of its bytes.
 * 3. `commit(key, checksum)`: the chunk can be found, and its bytes never change again. Or `abort(key)`.
 * Loading a chunk: `lease(key)`, `lookup(key)`, the other thread copies the slot and compares the checksum, and
 * then `release(key)`, or `remove(key, 'corrupt')` first.
 *
 * A slot is in one of these states, and in use (S3) in all but the first:
 *
 *   free ─reserve→ reserved ─commit→ idle ⇄ leased ─remove→ condemned
 *   (back to free: abort from reserved; remove or eviction from idle; the last release from condemned)
 *
 * Only idle chunks are in the LRU cache, so that what it evicts is never leased. A condemned chunk cannot be found
 * but blocks its key, since someone may still be copying its slot. Knows no threads, no tiers, no tokens.
 */
import assert from 'node:assert/strict';
import { LRUCache } from 'lru-cache';
import type { Checksum } from './checksum.js';
import type { ChunkKey } from './key.js';
import { type Slab, SlotPool, slotBytes } from './slab.js';
import type { ChunkStore, EvictReason, OnEvict, ReadOutcome, WriteOutcome } from './store.js';

interface HostChunk {
  readonly key: ChunkKey;
  readonly slot: number;
  /** Of the slot's bytes when they were sealed. */
  readonly checksum: bigint;
  leases: number;
  condemned: boolean;
}

export class HostStore implements ChunkStore {
  /** To hand to the thread that copies. */
  readonly slab: Slab;
  readonly capacityBytes: number;
  readonly #pool: SlotPool;
  readonly #checksum: Checksum;
  readonly #onEvict: OnEvict;
  readonly #reserved = new Map<ChunkKey, number>();
  readonly #idle: LRUCache<ChunkKey, HostChunk>;
  /** Leased chunks, condemned ones among them. */
  readonly #leased = new Map<ChunkKey, HostChunk>();
  #state: ChunkStore['state'] = 'open';

  /** Asserts that the capacity holds at least one chunk. */
  constructor(options: {
    readonly chunkBytes: number;
    readonly capacityBytes: number;
    readonly checksum: Checksum;
    readonly onEvict?: OnEvict;
  }) {
    const { chunkBytes, capacityBytes } = options;
    const slots = Math.floor(capacityBytes / chunkBytes);
    assert(chunkBytes > 0);
    assert(slots > 0, 'the capacity holds at least one chunk');
    this.slab = { buffer: new SharedArrayBuffer(slots * chunkBytes), slotBytes: chunkBytes };
    this.capacityBytes = capacityBytes;
    this.#pool = new SlotPool(slots);
    this.#idle = new LRUCache({ max: slots });
    this.#checksum = options.checksum;
    this.#onEvict = options.onEvict ?? (() => {});
  }

  get state(): ChunkStore['state'] {
    return this.#state;
  }

  get chunkBytes(): number {
    return this.slab.slotBytes;
  }

  get usedBytes(): number {
    return this.#pool.taken * this.chunkBytes;
  }

  /**
   * A slot to fill for a key that is neither present nor reserved (asserted); end with `commit` or `abort`.
   * Undefined when there is no room: everything is leased or reserved, the key's last bytes are still being read, or
   * the store is closed.
   */
  reserve(key: ChunkKey): number | undefined {
    if (this.#state === 'closed' || this.#leased.get(key)?.condemned) return undefined;
    assert(!this.#isTaken(key), 'a key is reserved once');
    let slot = this.#pool.take();
    let victim: HostChunk | undefined;
    if (slot === undefined) {
      victim = this.#idle.pop();
      slot = victim?.slot;
    }
    if (slot !== undefined) this.#reserved.set(key, slot);
    if (victim !== undefined) this.#onEvict(victim.key, 'capacity');
    return slot;
  }

  /**
   * Seals a reserved chunk as the most recently used; touch its path next, to keep its parents newer than it.
   * False when the store was closed meanwhile, and the slot is free again.
   */
  commit(key: ChunkKey, checksum: bigint): boolean {
    const slot = this.#unreserve(key);
    if (this.#state === 'closed') this.#pool.free(slot);
    else this.#idle.set(key, { key, slot, checksum, leases: 0, condemned: false });
    return this.#state === 'open';
  }

  /** Gives a reserved slot back. */
  abort(key: ChunkKey): void {
    this.#pool.free(this.#unreserve(key));
  }

  /** Where a sealed chunk is, and what its bytes must hash to. Good until the next `reserve`, unless leased. */
  lookup(key: ChunkKey): { readonly slot: number; readonly checksum: bigint } | undefined {
    const chunk = this.#find(key);
    return chunk && { slot: chunk.slot, checksum: chunk.checksum };
  }

  async has(key: ChunkKey): Promise<boolean> {
    return this.#find(key) !== undefined;
  }

  async read(key: ChunkKey, into: Uint8Array): Promise<ReadOutcome> {
    assert.equal(into.byteLength, this.chunkBytes);
    if (this.#state === 'closed') return 'closed';
    const chunk = this.#find(key);
    if (chunk === undefined) return 'missing';
    into.set(slotBytes(this.slab, chunk.slot));
    if (this.#checksum(into) !== chunk.checksum) {
      this.remove(key, 'corrupt');
      return 'corrupt';
    }
    this.touch([key]);
    return 'hit';
  }

  async write(key: ChunkKey, bytes: Uint8Array): Promise<WriteOutcome> {
    assert.equal(bytes.byteLength, this.chunkBytes);
    if (this.#state === 'closed') return 'closed';
    if (this.#isTaken(key)) return 'present';
    const slot = this.reserve(key);
    if (slot === undefined) return 'full';
    slotBytes(this.slab, slot).set(bytes);
    this.commit(key, this.#checksum(bytes));
    return 'stored';
  }

  remove(key: ChunkKey, reason: 'deleted' | 'corrupt' = 'deleted'): boolean {
    const chunk = this.#find(key);
    if (chunk === undefined) return false;
    this.#drop(chunk, reason);
    return true;
  }

  touch(keys: readonly ChunkKey[]): void {
    for (const key of keys) this.#idle.get(key);
  }

  lease(key: ChunkKey): boolean {
    const chunk = this.#find(key);
    if (chunk === undefined) return false;
    this.#idle.delete(key);
    this.#leased.set(key, chunk);
    chunk.leases++;
    return true;
  }

  release(key: ChunkKey): void {
    const chunk = this.#leased.get(key);
    assert(chunk !== undefined, 'only a leased chunk is released');
    chunk.leases--;
    if (chunk.leases > 0) return;
    this.#leased.delete(key);
    if (chunk.condemned) this.#pool.free(chunk.slot);
    else this.#idle.set(key, chunk);
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    for (const chunk of [...this.#idle.rvalues(), ...this.#leased.values()]) {
      if (chunk !== undefined && !chunk.condemned) this.#drop(chunk, 'closed');
    }
  }

  #find(key: ChunkKey): HostChunk | undefined {
    const leased = this.#leased.get(key);
    if (leased !== undefined) return leased.condemned ? undefined : leased;
    return this.#idle.peek(key);
  }

  #isTaken(key: ChunkKey): boolean {
    return this.#reserved.has(key) || this.#find(key) !== undefined;
  }

  #unreserve(key: ChunkKey): number {
    const slot = this.#reserved.get(key);
    assert(slot !== undefined, 'only a reserved chunk is committed or aborted');
    this.#reserved.delete(key);
    return slot;
  }

  #drop(chunk: HostChunk, reason: EvictReason): void {
    if (chunk.leases > 0) chunk.condemned = true;
    else {
      this.#idle.delete(chunk.key);
      this.#pool.free(chunk.slot);
    }
    this.#onEvict(chunk.key, reason);
  }
}
