/**
 * The host tier: chunks in a slab of shared memory, whose bytes another thread may copy in and out.
 *
 * Sealing a chunk, step by step (the owner's thread; only step 2 is the other thread's):
 * 1. `reserve(chunk)` gives a slot, evicting if need be. The chunk cannot be found yet.
 * 2. The other thread fills the slot (`slotBytes`) and computes the checksum of its bytes.
 * 3. `commit(key, checksum)`: the chunk can be found, and its bytes never change again. Or `abort(key)`.
 * Loading a chunk: `lease(key)`, `lookup(key)`, the other thread copies the slot and compares the checksum, and
 * then `release(key)`, or `remove(key, 'corrupt')` first.
 *
 * A slot is in use (S3) from `reserve` until its chunk is aborted, or has left and its last lease has ended: until
 * then someone may still be copying it, and the chunk's key is not free either. Who stays is decided by residents.ts.
 * Knows no threads and no other tier.
 */
import assert from 'node:assert/strict';
import type { Checksum } from './checksum.js';
import type { Clock } from './clock.js';
import type { ChunkKey } from './key.js';
import type { PolicyName } from './policy/index.js';
import { retentionOf } from './resident.js';
import type { OwnerHolding } from './resident-owner.js';
import { Residents } from './residents.js';
import type { ClassHolding, Shares } from './shares.js';
import { type Slab, SlotPool, slotBytes } from './slab.js';
import type {
  ChunkIdentity,
  ChunkStore,
  OnEvict,
  PinOutcome,
  ReadOutcome,
  Retention,
  WriteOutcome,
} from './store.js';

interface HostChunk {
  readonly identity: ChunkIdentity;
  readonly slot: number;
  /** Of the slot's bytes when they were sealed. */
  checksum: bigint;
  /** Exactly what was computed; false: it came through a lossy codec. */
  isExact: boolean;
}

export interface HostStoreOptions {
  readonly chunkBytes: number;
  readonly capacityBytes: number;
  readonly checksum: Checksum;
  readonly clock: Clock;
  readonly onEvict?: OnEvict;
  /** Who goes first; default `adaptive`. */
  readonly policy?: PolicyName;
  /** The share of the capacity, and of each class's share of it, that may be pinned; default 0.5. */
  readonly pinShare?: number;
  /** Default: all chunks are of one class. */
  readonly shares?: Shares | undefined;
  /** Whose the chunks of a namespace are, for quotas; default: each namespace is an owner. */
  readonly ownerOf?: ((namespace: string) => string) | undefined;
}

export class HostStore implements ChunkStore {
  /** To hand to the thread that copies. */
  readonly slab: Slab;
  readonly capacityBytes: number;
  readonly #pool: SlotPool;
  readonly #slots: number;
  readonly #checksum: Checksum;
  readonly #residents: Residents<HostChunk>;
  #state: ChunkStore['state'] = 'open';

  /** Asserts that the capacity holds at least one chunk. */
  constructor(options: HostStoreOptions) {
    const { chunkBytes, capacityBytes, clock, onEvict = () => {} } = options;
    const { policy, pinShare, shares, ownerOf } = options;
    const slots = Math.floor(capacityBytes / chunkBytes);
    assert(chunkBytes > 0);
    assert(slots > 0, 'the capacity holds at least one chunk');
    this.slab = { buffer: new SharedArrayBuffer(slots * chunkBytes), slotBytes: chunkBytes };
    this.capacityBytes = capacityBytes;
    this.#slots = slots;
    this.#pool = new SlotPool(slots);
    this.#checksum = options.checksum;
    this.#residents = new Residents({
      capacityBytes,
      clock,
      policy,
      pinShare,
      shares,
      ownerOf,
      onLeave: (chunk, reason) => onEvict(chunk.key, reason, chunk),
      onFree: (chunk) => this.#pool.free(chunk.data.slot),
    });
  }

  get state(): ChunkStore['state'] {
    return this.#state;
  }

  get chunkBytes(): number {
    return this.slab.slotBytes;
  }

  get usedBytes(): number {
    return this.#residents.usedBytes;
  }

  get pinnedBytes(): number {
    return this.#residents.pinnedBytes;
  }

  /** How many are sealed or reserved. */
  get chunks(): number {
    return this.#residents.count;
  }

  /** What each class takes. */
  classes(): Record<string, ClassHolding> {
    return this.#residents.classes();
  }

  /** What each owner takes. */
  owners(): ReadonlyMap<string, OwnerHolding> {
    return this.#residents.owners();
  }

  /** See `Residents.setQuotas`. */
  setQuotas(quotas: ReadonlyMap<string, number>): void {
    this.#residents.setQuotas(quotas);
  }

  /** Slots that nobody uses: so many chunks fit without an eviction. */
  get freeSlots(): number {
    return this.#slots - this.#pool.taken;
  }

  /**
   * A slot to fill for a chunk that is neither present nor reserved (asserted); end with `commit` or `abort`.
   * Undefined when there is no room: everything is leased, pinned, reserved or before such a chunk; or the key's last
   * bytes are still being read; or the store is closed.
   */
  reserve(identity: ChunkIdentity, retention?: Retention): number | undefined {
    const { key, parent, namespace } = identity;
    if (this.#state !== 'open') return undefined;
    assert(!this.isReserved(key) && !this.has(key), 'a key is reserved once');
    if (this.#residents.isTaken(key)) return undefined;
    if (!this.#residents.makeRoomFor({ parent, namespace, bytes: this.chunkBytes })) return undefined;
    const slot = this.#pool.take();
    assert(slot !== undefined, 'room is a free slot');
    this.#residents.add({
      key,
      parent,
      namespace,
      bytes: this.chunkBytes,
      data: { identity: { ...identity, tokens: identity.tokens.slice() }, slot, checksum: 0n, isExact: true },
      retention,
    });
    return slot;
  }

  /** Seals a reserved chunk. False when the store was closed meanwhile, and the slot is free again. */
  commit(
    key: ChunkKey,
    checksum: bigint,
    { isExact = true, isUse = true }: { readonly isExact?: boolean; readonly isUse?: boolean } = {},
  ): boolean {
    const chunk = this.#residents.getWriting(key);
    assert(chunk !== undefined, 'only a reserved chunk is committed');
    Object.assign(chunk.data, { checksum, isExact });
    if (this.#state === 'open') this.#residents.commit(key, { isUse });
    else this.#residents.abort(key);
    return this.#state === 'open';
  }

  /** Gives a reserved slot back. */
  abort(key: ChunkKey): void {
    this.#residents.abort(key);
  }

  isReserved(key: ChunkKey): boolean {
    return this.#residents.getWriting(key) !== undefined;
  }

  /** Where a sealed chunk is, and what its bytes must hash to. Good until the next `reserve`, unless leased. */
  lookup(key: ChunkKey): { readonly slot: number; readonly checksum: bigint } | undefined {
    return this.#residents.get(key)?.data;
  }

  /** What a sealed chunk is. */
  identity(key: ChunkKey): ChunkIdentity | undefined {
    return this.#residents.get(key)?.data.identity;
  }

  /** How long and how dearly a sealed chunk is kept. */
  retention(key: ChunkKey): Retention | undefined {
    const chunk = this.#residents.get(key);
    return chunk && retentionOf(chunk);
  }

  /** Whether a sealed chunk is exactly what was computed, or came through a lossy codec. */
  exactOf(key: ChunkKey): boolean | undefined {
    return this.#residents.get(key)?.data.isExact;
  }

  /** Uses of a sealed chunk since it came; 0 when it is not here. */
  hits(key: ChunkKey): number {
    return this.#residents.get(key)?.hits ?? 0;
  }

  /** The time that its pin is renewed for by each use; undefined when it is not pinned. */
  pinTtlMs(key: ChunkKey): number | undefined {
    return this.#residents.pinTtlMs(key);
  }

  /** Of the sealed chunks, in no order. */
  keys(): ChunkKey[] {
    return [...this.#residents.all()].map((chunk) => chunk.key);
  }

  /** See `Residents.victims`. */
  victims(count: number): ChunkKey[] {
    return this.#residents.victims(count);
  }

  has(key: ChunkKey): boolean {
    return this.#residents.get(key) !== undefined;
  }

  async read(key: ChunkKey, into: Uint8Array): Promise<ReadOutcome> {
    assert.equal(into.byteLength, this.chunkBytes);
    if (this.#state !== 'open') return 'unavailable';
    const chunk = this.lookup(key);
    if (chunk === undefined) return 'missing';
    into.set(slotBytes(this.slab, chunk.slot));
    if (this.#checksum(into) === chunk.checksum) return 'hit';
    this.remove(key, 'corrupt');
    return 'corrupt';
  }

  async write(chunk: ChunkIdentity, bytes: Uint8Array, retention?: Retention): Promise<WriteOutcome> {
    assert.equal(bytes.byteLength, this.chunkBytes);
    if (this.#state !== 'open') return 'unavailable';
    if (this.has(chunk.key) || this.isReserved(chunk.key)) return 'present';
    const slot = this.reserve(chunk, retention);
    if (slot === undefined) return 'full';
    slotBytes(this.slab, slot).set(bytes);
    this.commit(chunk.key, this.#checksum(bytes));
    return 'stored';
  }

  remove(key: ChunkKey, reason: 'deleted' | 'corrupt' | 'failed' = 'deleted'): boolean {
    return this.#residents.remove(key, reason);
  }

  touch(keys: readonly ChunkKey[]): void {
    this.#residents.touch(keys);
  }

  retain(keys: readonly ChunkKey[], retention: Retention): void {
    this.#residents.retain(keys, retention);
  }

  lease(key: ChunkKey): boolean {
    return this.#residents.lease(key);
  }

  release(key: ChunkKey): void {
    this.#residents.release(key);
  }

  pin(keys: readonly ChunkKey[], options: { readonly ttlMs: number }): PinOutcome {
    return this.#residents.pin(keys, options);
  }

  unpin(keys: readonly ChunkKey[]): void {
    this.#residents.unpin(keys);
  }

  /** Lets expired chunks go, a bounded number a call. For idle times: without it they go when they are met. */
  expire(): void {
    this.#residents.expire();
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#residents.clear('closed');
  }

  /** Recounts everything and throws an `AssertionError` on a broken invariant. For tests and idle times. */
  audit(): void {
    this.#residents.audit();
    assert.equal(this.#pool.taken, this.#residents.count, 'a slot for each chunk');
  }
}
