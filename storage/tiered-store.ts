/**
 * Host memory and the stores below it as one store: chunks are promoted to the host when they are needed, and demoted
 * by a write policy.
 *
 * | write policy              | a chunk goes down                                                       |
 * |---------------------------|-------------------------------------------------------------------------|
 * | `write-through`           | when it is sealed                                                       |
 * | `write-through-selective` | when requests have used it `writeHits` times                            |
 * | `write-back`              | when it is next to be evicted, or the store is closed; lost by a crash  |
 *
 * A chunk is here while any tier has it, and is reported as gone when the last copy went; one that the disk, lost and
 * opening again, will have is not gone. A lease holds it in each tier that has it, and in the host from its promotion
 * on, so that what was found can be read. The same chunk is promoted once, however many wait for it. A corrupt copy in
 * one tier leaves the other.
 *
 * What is computed, used and removed here is told to the writer of a remote tier, which has copies of its own; whether
 * they are there is not known, and no matter: what only that tier has is not here.
 *
 * What a graph reads is always a host slot: `promote(key)`, then `lookup(key)`.
 */
import assert from 'node:assert/strict';
import type { HostStore } from './host-store.js';
import type { ChunkKey } from './key.js';
import type { LoadOutcome, LowerStore } from './lower-store.js';
import type { RemoteWriter } from './remote/remote-writer.js';
import type { ClassHolding } from './shares.js';
import { slotBytes } from './slab.js';
import type {
  ChunkIdentity,
  ChunkLife,
  ChunkStore,
  EvictReason,
  OnEvict,
  PinOutcome,
  ReadOutcome,
  Retention,
  WriteOutcome,
} from './store.js';
import { WriteQueue } from './write-queue.js';

export const WRITE_POLICIES = ['write-through', 'write-through-selective', 'write-back'] as const;
export type WritePolicy = (typeof WRITE_POLICIES)[number];

type PromoteOutcome = ReadOutcome | 'full';

export type TierName = 'host' | 'disk';

/** With `write-back`, demotion begins when less than this share of the host tier is free. */
const WRITE_BACK_FREE_SHARE = 1 / 8;

/** With `write-back`, this many of the next victims are written ahead. */
const WRITE_BACK_CHUNKS = 16;

/** What a tier holds. */
export interface Holding {
  readonly bytes: number;
  readonly capacityBytes: number;
  readonly chunks: number;
  /** By class, see shares.ts. */
  readonly classes: Readonly<Record<string, ClassHolding>>;
}

export interface TieredOptions {
  readonly host: (onEvict: OnEvict) => HostStore;
  /** Absent: nothing outlives host memory. */
  readonly disk?: (onEvict: OnEvict) => LowerStore;
  /** Copies chunks of the host to where other nodes find them. */
  readonly remote?: (host: HostStore) => RemoteWriter;
  readonly writePolicy: WritePolicy;
  /** Uses after which `write-through-selective` writes. */
  readonly writeHits: number;
  /** Whether reading back a chunk would be faster than computing it; asked before each write. */
  readonly isWorthWriting?: () => boolean;
  /** A chunk left the last tier that had it. */
  readonly onEvict?: (...left: [...Parameters<OnEvict>, tier: TierName]) => void;
  /** A chunk left one tier. */
  readonly onTierEvict?: (tier: TierName, key: ChunkKey, reason: EvictReason, life: ChunkLife) => void;
  /** A tier has a chunk now that another one has too. */
  readonly onTierCopy?: (tier: TierName, key: ChunkKey) => void;
}

export class TieredStore implements ChunkStore {
  readonly host: HostStore;
  readonly disk: LowerStore | undefined;
  readonly #options: TieredOptions;
  readonly #remote: RemoteWriter | undefined;
  readonly #queue: WriteQueue | undefined;
  readonly #leases = new Map<ChunkKey, { count: number; readonly tiers: Set<ChunkStore> }>();
  readonly #promoting = new Map<ChunkKey, Promise<PromoteOutcome>>();
  /** Being asked about in `#left`. */
  readonly #leaving = new Set<ChunkKey>();
  /** Reported as gone, but on their way down: they must not stay there. */
  readonly #goneWhileWriting = new Set<ChunkKey>();
  readonly #counts = { promoted: 0, promotionsRefused: 0, promotionsMissed: 0, writesNotWorth: 0 };
  #state: 'open' | 'closing' | 'closed' = 'open';

  constructor(options: TieredOptions) {
    this.#options = options;
    this.host = options.host((key, ...how) => this.#left('host', key, ...how));
    this.disk = options.disk?.((key, ...how) => this.#left('disk', key, ...how));
    const { host, disk } = this;
    this.#remote = options.remote?.(host);
    if (disk === undefined) return;
    assert.equal(disk.chunkBytes, host.chunkBytes);
    this.#queue = new WriteQueue({
      host,
      below: disk,
      onStored: (key) => this.#copied(key, host, disk),
      onRefused: (key) => this.#goneWhileWriting.delete(key),
    });
  }

  /** Open as soon as the host is: what the disk tier has is found when it has opened. */
  get state(): ChunkStore['state'] {
    return this.#state;
  }

  get chunkBytes(): number {
    return this.host.chunkBytes;
  }

  get usedBytes(): number {
    return this.host.usedBytes + (this.disk?.usedBytes ?? 0);
  }

  get capacityBytes(): number {
    return this.host.capacityBytes + (this.disk?.capacityBytes ?? 0);
  }

  /** The fastest tier that has the chunk. */
  tierOf(key: ChunkKey): TierName | undefined {
    return this.#state === 'open' ? this.#tierOf(key) : undefined;
  }

  has(key: ChunkKey): boolean {
    return this.tierOf(key) !== undefined;
  }

  /** Whether a tier has the chunk; without `tier`, whether any here has. The remote one may have what is here. */
  isIn(tier: TierName | 'remote' | undefined, key: ChunkKey): boolean {
    if (tier === undefined || tier === 'remote' || this.#state !== 'open') return this.has(key);
    return tier === 'host' ? this.host.has(key) : (this.disk?.has(key) ?? false);
  }

  /** Whether someone holds a lease of the chunk. */
  isLeased(key: ChunkKey): boolean {
    return this.#leases.has(key);
  }

  /** Whether the chunk is pinned in a tier; without `tier`, in any. */
  isPinned(key: ChunkKey, tier?: TierName | 'remote'): boolean {
    if (tier === 'remote') return false;
    const inHost = tier !== 'disk' && this.host.pinTtlMs(key) !== undefined;
    return inHost || (tier !== 'host' && this.disk?.pinTtlMs(key) !== undefined);
  }

  /** Whether a chunk is exactly what was computed, or came through a lossy codec, in the fastest tier that has it. */
  exactOf(key: ChunkKey): boolean | undefined {
    return this.host.exactOf(key) ?? this.disk?.exactOf(key);
  }

  /** What a chunk is that some tier has. */
  identity(key: ChunkKey): ChunkIdentity | undefined {
    return this.host.identity(key) ?? this.disk?.identity(key);
  }

  /** Where a chunk lies in the host tier, and what its bytes must hash to; undefined when it is not there. */
  lookup(key: ChunkKey): { readonly slot: number; readonly checksum: bigint } | undefined {
    return this.host.lookup(key);
  }

  /** A host slot for a chunk that no tier has, as `HostStore.reserve`; undefined too while it is being promoted. */
  reserve(chunk: ChunkIdentity, retention?: Retention): number | undefined {
    if (this.#state !== 'open' || this.host.isReserved(chunk.key)) return undefined;
    const slot = this.host.reserve(chunk, retention);
    this.#demoteAhead();
    return slot;
  }

  /** Seals a reserved chunk; false when the store was closed meanwhile. */
  commit(
    key: ChunkKey,
    checksum: bigint,
    options: { readonly isExact?: boolean; readonly isUse?: boolean } = {},
  ): boolean {
    if (!this.host.commit(key, checksum, options)) return false;
    this.#remote?.sealed(key);
    if (this.#options.writePolicy === 'write-through') this.#demote(key);
    return true;
  }

  abort(key: ChunkKey): void {
    this.host.abort(key);
  }

  /** Brings a chunk into the host tier. Unless `hit` it is not there: `full` when what may not be evicted fills it. */
  promote(key: ChunkKey): Promise<PromoteOutcome> {
    if (this.host.has(key)) return Promise.resolve('hit');
    let promotion = this.#promoting.get(key);
    if (promotion === undefined) {
      promotion = this.#promote(key).finally(() => this.#promoting.delete(key));
      this.#promoting.set(key, promotion);
    }
    return promotion;
  }

  async read(key: ChunkKey, into: Uint8Array): Promise<ReadOutcome> {
    assert.equal(into.byteLength, this.chunkBytes);
    if (this.#state !== 'open') return 'unavailable';
    if (this.host.has(key)) {
      const outcome = await this.host.read(key, into);
      if (outcome === 'hit' || !this.disk?.has(key)) return outcome;
    }
    const outcome = await this.promote(key);
    if (outcome === 'hit') return this.host.read(key, into);
    return outcome === 'full' ? this.disk!.read(key, into) : outcome;
  }

  async write(chunk: ChunkIdentity, bytes: Uint8Array, retention?: Retention): Promise<WriteOutcome> {
    assert.equal(bytes.byteLength, this.chunkBytes);
    if (this.#state !== 'open') return 'unavailable';
    if (this.has(chunk.key)) return 'present';
    const outcome = await this.host.write(chunk, bytes, retention);
    if (outcome === 'stored' && this.#options.writePolicy === 'write-through') this.#demote(chunk.key);
    this.#demoteAhead();
    return outcome;
  }

  /** As `read`, but leaves the chunk in the tier where it is, and says what the bytes are. */
  async copy(key: ChunkKey, into: Uint8Array): Promise<LoadOutcome> {
    if (this.#state !== 'open') return { outcome: 'unavailable' };
    const { host, disk } = this;
    const [place, isExact] = [host.lookup(key), host.exactOf(key)];
    if (place !== undefined && isExact !== undefined && (await host.read(key, into)) === 'hit')
      return { outcome: 'hit', checksum: place.checksum, isExact };
    return disk?.load(key, into) ?? { outcome: 'missing' };
  }

  /**
   * Keeps a chunk that was computed elsewhere: in the slowest tier, from which it is promoted when it is needed. Its
   * bytes must match the checksum.
   */
  async takeIn(
    chunk: ChunkIdentity,
    bytes: Uint8Array,
    options: { readonly checksum: bigint; readonly isExact: boolean },
  ): Promise<WriteOutcome> {
    const { host, disk } = this;
    if (this.#state !== 'open') return 'unavailable';
    if (this.has(chunk.key)) return 'present';
    if (disk?.state === 'open') return disk.store(chunk, bytes, options);
    const slot = host.isReserved(chunk.key) ? undefined : host.reserve(chunk);
    if (slot === undefined) return 'full';
    slotBytes(host.slab, slot).set(bytes);
    host.commit(chunk.key, options.checksum, { isExact: options.isExact, isUse: false });
    return 'stored';
  }

  /** Bytes that what is taken in may fill. */
  get takeInCapacityBytes(): number {
    return this.disk?.state === 'open' ? this.disk.capacityBytes : this.host.capacityBytes;
  }

  /** @param tier the only one to remove it from; default: all */
  remove(
    key: ChunkKey,
    reason: 'deleted' | 'corrupt' | 'failed' = 'deleted',
    tier?: TierName | 'remote',
  ): boolean {
    if (this.#state !== 'open') return false;
    if (reason === 'deleted' && (tier === undefined || tier === 'remote')) this.#remote?.remove(key);
    if (tier === 'remote') return this.#remote !== undefined;
    const wasInHost = tier !== 'disk' && this.host.remove(key, reason);
    const wasOnDisk = tier !== 'host' && (this.disk?.remove(key, reason) ?? false);
    return wasInHost || wasOnDisk;
  }

  /** Forgets the copy in host memory, whose bytes did not match their checksum. The one on disk stays. */
  condemnHostCopy(key: ChunkKey): void {
    this.host.remove(key, 'corrupt');
  }

  touch(keys: readonly ChunkKey[]): void {
    this.host.touch(keys);
    this.disk?.touch(keys);
    this.#remote?.used(keys);
    if (this.#options.writePolicy !== 'write-through-selective') return;
    for (const key of keys.toReversed()) {
      if (this.host.hits(key) >= this.#options.writeHits) this.#demote(key);
    }
  }

  retain(keys: readonly ChunkKey[], retention: Retention): void {
    for (const tier of this.#tiers()) tier.retain(keys, retention);
  }

  lease(key: ChunkKey): boolean {
    if (!this.has(key)) return false;
    const lease = this.#leases.get(key) ?? { count: 0, tiers: new Set() };
    lease.count++;
    this.#leases.set(key, lease);
    for (const tier of this.#tiers()) this.#hold(key, tier);
    return true;
  }

  release(key: ChunkKey): void {
    const lease = this.#leases.get(key);
    assert(lease !== undefined, 'only a leased chunk is released');
    lease.count--;
    if (lease.count > 0) return;
    this.#leases.delete(key);
    for (const tier of lease.tiers) tier.release(key);
  }

  /** In each tier, those of the chunks that it has. */
  pin(keys: readonly ChunkKey[], options: { readonly ttlMs: number }): PinOutcome {
    if (!keys.every((key) => this.has(key))) return 'missing';
    for (const tier of this.#tiers()) {
      const outcome = tier.pin(
        keys.filter((key) => tier.has(key)),
        options,
      );
      if (outcome === 'pinned') continue;
      this.unpin(keys);
      return outcome;
    }
    return 'pinned';
  }

  unpin(keys: readonly ChunkKey[]): void {
    for (const tier of this.#tiers()) tier.unpin(keys);
  }

  /** Resolves when what the disk holds can be found; rejects when that can never be. */
  get opened(): Promise<void> {
    return this.disk?.opened ?? Promise.resolve();
  }

  /** To be called every few seconds: bounded upkeep. */
  maintain(): void {
    this.host.expire();
    this.disk?.maintain();
  }

  /** What each tier holds. */
  tiers(): Partial<Record<TierName, Holding>> {
    const { host, disk } = this;
    return { host: holdingOf(host), ...(disk && { disk: holdingOf(disk) }) };
  }

  /** Counters since the start. */
  reading() {
    return { ...this.#counts, queued: this.#queue?.length ?? 0, writes: { ...this.#queue?.counts } };
  }

  /** Resolves when every write that was asked for is done or given up. */
  async flushed(): Promise<void> {
    await this.#queue?.idle();
  }

  /**
   * Writes what its policy still owes the disk tier, and closes all tiers.
   *
   * @param giveUp when it resolves, what is not written yet is not written any more.
   */
  async close(giveUp: Promise<void> = new Promise(() => {})): Promise<void> {
    if (this.#state !== 'open') return;
    this.#state = 'closing';
    await Promise.allSettled(this.#promoting.values());
    if (this.#options.writePolicy === 'write-back') {
      for (const key of this.host.keys()) this.#demote(key);
    }
    await Promise.race([Promise.all([this.flushed(), this.#remote?.flushed()]), giveUp]);
    this.#remote?.close();
    this.#queue?.clear();
    await this.flushed();
    await Promise.all(this.#tiers().map((tier) => tier.close()));
    this.#state = 'closed';
  }

  async #promote(key: ChunkKey): Promise<PromoteOutcome> {
    const { host, disk } = this;
    if (this.#state !== 'open') return 'unavailable';
    const chunk = disk?.identity(key);
    if (disk === undefined || chunk === undefined || !disk.lease(key)) return 'missing';
    try {
      const slot = host.isReserved(key) ? undefined : host.reserve(chunk, disk.retention(key));
      if (slot === undefined) {
        this.#counts.promotionsRefused++;
        return 'full';
      }
      const loaded = await disk.load(key, slotBytes(host.slab, slot));
      // Whoever removed it meanwhile was told that it is gone.
      if (loaded.outcome !== 'hit' || !disk.has(key)) {
        host.abort(key);
        this.#counts.promotionsMissed++;
        return loaded.outcome === 'hit' ? 'missing' : loaded.outcome;
      }
      // The request that it is fetched for counts its use when it reads it.
      if (!host.commit(key, loaded.checksum, { isExact: loaded.isExact, isUse: false })) return 'unavailable';
      this.#copied(key, disk, host);
      this.#counts.promoted++;
      return 'hit';
    } finally {
      disk.release(key);
    }
  }

  /** A second tier has the chunk now: its leases and pins hold it there too, and it is kept as long. */
  #copied(key: ChunkKey, from: HostStore | LowerStore, to: HostStore | LowerStore): void {
    if (this.#goneWhileWriting.delete(key)) {
      this.#leaving.add(key);
      to.remove(key);
      this.#leaving.delete(key);
      return;
    }
    this.#hold(key, to);
    const [retention, copied] = [from.retention(key), to.retention(key)];
    const isSame = retention?.ttlMs === copied?.ttlMs && retention?.priority === copied?.priority;
    if (retention !== undefined && !isSame) to.retain([key], retention);
    const ttlMs = from.pinTtlMs(key);
    if (ttlMs !== undefined) to.pin([key], { ttlMs });
    this.#options.onTierCopy?.(to === this.host ? 'host' : 'disk', key);
  }

  /** Has the leases of a chunk hold its copy in a tier. */
  #hold(key: ChunkKey, tier: ChunkStore): void {
    const lease = this.#leases.get(key);
    if (lease !== undefined && !lease.tiers.has(tier) && tier.lease(key)) lease.tiers.add(tier);
  }

  #demote(key: ChunkKey): void {
    if (this.#queue === undefined || this.disk!.has(key) || !this.host.has(key)) return;
    if (this.#options.isWorthWriting?.() ?? true) this.#queue.add(key);
    else this.#counts.writesNotWorth++;
  }

  /** Keeps the next victims of the host tier written, so that evicting them loses nothing. */
  #demoteAhead(): void {
    const { host } = this;
    if (this.#options.writePolicy !== 'write-back' || this.#queue === undefined) return;
    if (host.capacityBytes - host.usedBytes > host.capacityBytes * WRITE_BACK_FREE_SHARE) return;
    for (const key of host.victims(WRITE_BACK_CHUNKS)) this.#demote(key);
  }

  #left(tier: TierName, key: ChunkKey, reason: EvictReason, life: ChunkLife): void {
    this.#options.onTierEvict?.(tier, key, reason, life);
    // Asking the other tier, or taking it from there, may have it leave too: then this call reports for both.
    if (this.#leaving.has(key)) return;
    this.#leaving.add(key);
    if (reason === 'expired') for (const other of this.#tiers()) other.remove(key);
    const isGone = !this.host.has(key) && !this.disk?.keeps(key);
    this.#leaving.delete(key);
    if (!isGone) return;
    if (this.#queue?.isWriting(key)) this.#goneWhileWriting.add(key);
    this.#options.onEvict?.(key, reason, life, tier);
  }

  #tierOf(key: ChunkKey): TierName | undefined {
    if (this.host.has(key)) return 'host';
    return this.disk?.has(key) ? 'disk' : undefined;
  }

  #tiers(): ChunkStore[] {
    return this.disk === undefined ? [this.host] : [this.host, this.disk];
  }
}

function holdingOf(tier: HostStore | LowerStore): Holding {
  const { usedBytes: bytes, capacityBytes, chunks } = tier;
  return { bytes, capacityBytes, chunks, classes: tier.classes() };
}
