/**
 * The disk tier: chunks in files that outlive the process. Who stays is decided here (see residents.ts), on the
 * caller's thread and without waiting; a thread of its own obeys, and does all I/O (see disk-thread.ts).
 *
 * States: `opening` until the directory is open and every chunk in it is known, and again when its thread or its
 * catalogue was lost, until another has taken over; so no call ever waits for a start. Every chunk that was there is
 * told by `onLoaded` before the state becomes `open`.
 *
 * A chunk can be found when its file and its row are durable. One of another model, KV layout or encryption key takes
 * room until it is evicted, and is never found. Writes pause while they fail; reads never do. How chunks are used is
 * written down now and then (`maintain`), pins at once.
 */
import assert from 'node:assert/strict';
import type { Clock } from '../clock.js';
import { type Codec, type CodecName, createCodec } from '../codec.js';
import type { ChunkKey } from '../key.js';
import type { KvLayout } from '../layout.js';
import type { LoadOutcome, LowerStore } from '../lower-store.js';
import type { PolicyName } from '../policy/index.js';
import { type Resident, retentionOf } from '../resident.js';
import type { OwnerHolding } from '../resident-owner.js';
import { Residents } from '../residents.js';
import type { ClassHolding, Shares } from '../shares.js';
import type {
  ChunkIdentity,
  ChunkStore,
  EvictReason,
  OnEvict,
  PinOutcome,
  ReadOutcome,
  Retention,
  WriteOutcome,
} from '../store.js';
import type { LoadReport, OpenBackend, ReadResult } from './backend.js';
import { Backoff } from './backoff.js';
import type { ChunkUsage, UsageOf } from './catalogue.js';
import { fileBytesOf } from './chunk-head.js';
import { chargedBytes, DiskBudget } from './disk-budget.js';
import { DiskConnection, type TakeIn } from './disk-connection.js';
import { zeroCounters } from './disk-counters.js';
import { type DiskChunk, DiskTakeIn } from './disk-take-in.js';
import { DiskThread } from './disk-thread.js';
import { DiskTransfers } from './disk-transfers.js';
import type { Stopwatch } from './speed-meter.js';

/** Uses written down at once, so that the disk's thread is not kept from reading for long. */
const USES_AT_ONCE = 500;

export interface DiskStoreOptions {
  readonly directory: string;
  /** The model's, as in the keys of its chunks. */
  readonly fingerprint: string;
  readonly layout: KvLayout;
  /** At rest; must suit the layout (`suitsLayout`). */
  readonly codec: CodecName;
  /** 32 bytes; absent: no encryption. */
  readonly encryptionKey?: Uint8Array | undefined;
  /** For the directory as a whole; more than an empty one takes (`DIRECTORY_BYTES`). */
  readonly capacityBytes: number;
  /** Of the volume, to leave free for others. */
  readonly freeBytesMin: number;
  readonly clock: Clock;
  /** For measured speeds. */
  readonly stopwatch: Stopwatch;
  /** Who goes first; default `adaptive`. */
  readonly policy?: PolicyName | undefined;
  /** The share of the capacity, and of each class's share of it, that may be pinned; default 0.5. */
  readonly pinShare?: number | undefined;
  /** Default: all chunks are of one class. */
  readonly shares?: Shares | undefined;
  /** Whose the chunks of a namespace are, for quotas; default: each namespace is an owner. */
  readonly ownerOf?: ((namespace: string) => string) | undefined;
  readonly onEvict?: OnEvict | undefined;
  /**
   * These chunks are on the disk; each comes after its parent. They are found when the store is open, unless `onEvict`
   * says that they left before. Must not call the store.
   */
  readonly onLoaded?: ((chunks: readonly ChunkIdentity[]) => void) | undefined;
  /** The disk's thread or its catalogue was lost in use; the store opens again. */
  readonly onLost?: ((error: Error) => void) | undefined;
  /** Opens the directory; default: on a thread of its own. */
  readonly openBackend?: OpenBackend | undefined;
}

/** What is known of bytes to be stored, beyond how long to keep them. */
export interface StoreOptions extends Retention {
  /** XXH64 of the bytes when they were sealed: if they changed since, they are not stored (`failed`). */
  readonly checksum?: bigint;
  /** Default true; false when the bytes came through a lossy codec before. */
  readonly isExact?: boolean;
}

export class DiskStore implements LowerStore {
  readonly chunkBytes: number;
  readonly #counters = zeroCounters();
  readonly #codec: Codec;
  readonly #onEvict: OnEvict;
  readonly #onLoaded: (chunks: readonly ChunkIdentity[]) => void;
  readonly #connection: DiskConnection;
  readonly #budget: DiskBudget;
  readonly #residents: Residents<DiskChunk>;
  readonly #transfers: DiskTransfers;
  readonly #writeBackoff: Backoff;
  /** Used since it was written down. */
  readonly #used = new Set<ChunkKey>();
  /** Left while nobody had the directory. */
  readonly #leftMeanwhile = new Set<ChunkKey>();
  #quotas: ReadonlyMap<string, number> = new Map();
  #isAskingFree = false;
  #beingWrittenBytes = 0;
  #chunks = 0;
  #foreignBytes = 0;

  private constructor(options: DiskStoreOptions) {
    const { layout, capacityBytes, freeBytesMin, clock, policy, pinShare, shares, ownerOf } = options;
    this.chunkBytes = layout.chunkBytes;
    this.#codec = createCodec(options.codec, layout);
    this.#onEvict = options.onEvict ?? (() => {});
    this.#onLoaded = options.onLoaded ?? (() => {});
    this.#budget = new DiskBudget({ budgetBytes: capacityBytes, freeBytesMin });
    this.#residents = new Residents({
      capacityBytes: this.#budget.capacityBytes,
      clock,
      policy,
      pinShare,
      shares,
      ownerOf,
      onLeave: (chunk, reason) => this.#left(chunk, reason),
      onFree: () => {},
    });
    this.#connection = new DiskConnection({
      clock,
      openBackend: options.openBackend ?? onThread(options),
      beginTakeIn: () => this.#beginTakeIn(),
      onLost: (error) => {
        this.#counters.restarts++;
        options.onLost?.(error);
      },
      onTrouble: () => this.#counters.troubles++,
    });
    this.#writeBackoff = new Backoff(clock);
    this.#transfers = new DiskTransfers({
      connection: this.#connection,
      counters: this.#counters,
      backoff: this.#writeBackoff,
      stopwatch: options.stopwatch,
    });
  }

  /** Starts to open the directory, and makes it if need be; see `opened`. */
  static open(options: DiskStoreOptions): DiskStore {
    return new DiskStore(options);
  }

  /**
   * Resolves when the store is open for the first time, or was closed before.
   * @throws DiskError when the directory can't be used; the store is closed then
   */
  get opened(): Promise<void> {
    return this.#connection.opened;
  }

  get state(): ChunkStore['state'] {
    return this.#connection.state;
  }

  /** What chunks count for on the disk: `chargedBytes` of their files. */
  get usedBytes(): number {
    return this.#residents.usedBytes;
  }

  /** For chunks: the budget less `DIRECTORY_BYTES`. */
  get capacityBytes(): number {
    return this.#budget.capacityBytes;
  }

  get pinnedBytes(): number {
    return this.#residents.pinnedBytes;
  }

  /** That can be found. */
  get chunks(): number {
    return this.state === 'open' ? this.#chunks : 0;
  }

  /** What each class takes, chunks of other models included. */
  classes(): Record<string, ClassHolding> {
    return this.#residents.classes();
  }

  /** What each owner takes; chunks of other models are of `FOREIGN_OWNER`. */
  owners(): ReadonlyMap<string, OwnerHolding> {
    return this.#residents.owners();
  }

  /** See `Residents.setQuotas`. They hold from when the store is open. */
  setQuotas(quotas: ReadonlyMap<string, number>): void {
    this.#quotas = quotas;
    if (this.state === 'open') this.#residents.setQuotas(quotas);
  }

  /** For metrics. */
  reading() {
    return {
      bytes: this.usedBytes,
      capacityBytes: this.capacityBytes,
      pinnedBytes: this.pinnedBytes,
      chunks: this.chunks,
      foreignBytes: this.#foreignBytes,
      /** Of the volume; undefined before it was asked. */
      freeBytes: this.#budget.freeBytes,
      /** As who waits for it sees it; undefined before the first. */
      readBytesPerSecond: this.#transfers.readBytesPerSecond,
      writeBytesPerSecond: this.#transfers.writeBytesPerSecond,
      counters: { ...this.#counters },
    };
  }

  has(key: ChunkKey): boolean {
    return this.#find(key) !== undefined;
  }

  identity(key: ChunkKey): ChunkIdentity | undefined {
    return this.#find(key)?.data.identity;
  }

  keeps(key: ChunkKey): boolean {
    return this.#kept(key) !== undefined;
  }

  exactOf(key: ChunkKey): boolean | undefined {
    return this.#find(key)?.data.isExact;
  }

  retention(key: ChunkKey): Retention | undefined {
    const chunk = this.#find(key);
    return chunk && retentionOf(chunk);
  }

  pinTtlMs(key: ChunkKey): number | undefined {
    return this.has(key) ? this.#residents.pinTtlMs(key) : undefined;
  }

  async read(key: ChunkKey, into: Uint8Array): Promise<ReadOutcome> {
    return (await this.load(key, into)).outcome;
  }

  async load(key: ChunkKey, into: Uint8Array): Promise<LoadOutcome> {
    assert.equal(into.byteLength, this.chunkBytes);
    if (this.state !== 'open') return { outcome: 'unavailable' };
    const chunk = this.#find(key);
    if (chunk === undefined) return { outcome: 'missing' };
    this.#residents.lease(key);
    const result = await this.#transfers.read(key, into);
    this.#residents.release(key);
    return this.#loaded(chunk, result);
  }

  async write(chunk: ChunkIdentity, bytes: Uint8Array, retention: Retention = {}): Promise<WriteOutcome> {
    return this.store(chunk, bytes, retention);
  }

  async store(chunk: ChunkIdentity, bytes: Uint8Array, options: StoreOptions): Promise<WriteOutcome> {
    assert.equal(bytes.byteLength, this.chunkBytes);
    if (this.state !== 'open') return 'unavailable';
    const { key, parent, namespace } = chunk;
    const standing = this.#residents.get(key);
    if (standing !== undefined && !standing.data.isOwn) this.#residents.remove(key, 'deleted');
    else if (standing !== undefined || this.#residents.getWriting(key) !== undefined) return 'present';
    if (this.#residents.isTaken(key)) return 'full'; // its last bytes are still being read
    if (this.#writeBackoff.isPaused) {
      this.#counters.writesPaused++;
      return 'failed';
    }
    const identity = { key, parent, namespace, tokens: chunk.tokens.slice() };
    const cost = chargedBytes(fileBytesOf(chunk, this.#codec.encodedBytes));
    const shortageBytes = this.#budget.shortageBytes(this.usedBytes);
    if (!this.#residents.makeRoomFor({ parent, namespace, bytes: cost }, { shortageBytes })) return 'full';
    const data: DiskChunk = { identity, isOwn: true, isExact: false };
    const resident = this.#residents.add({ ...identity, bytes: cost, data, retention: options });
    assert(resident !== undefined, 'room was made');
    return this.#connection.track(this.#write(resident, bytes, options));
  }

  remove(key: ChunkKey, reason: 'deleted' | 'corrupt' | 'failed' = 'deleted'): boolean {
    return this.keeps(key) && this.#residents.remove(key, reason);
  }

  touch(keys: readonly ChunkKey[]): void {
    const present = keys.filter((key) => this.has(key));
    this.#residents.touch(present);
    for (const key of present) this.#used.add(key);
  }

  retain(keys: readonly ChunkKey[], retention: Retention): void {
    const present = keys.filter((key) => this.has(key));
    this.#residents.retain(present, retention);
    this.#writeDown(present);
  }

  /** Removes what other models, layouts or encryption keys left here. @returns how many chunks that were */
  removeForeign(): number {
    const foreign = [...this.#residents.all()].filter(({ data }) => !data.isOwn);
    return foreign.filter(({ key }) => this.#residents.remove(key, 'deleted')).length;
  }

  lease(key: ChunkKey): boolean {
    return this.has(key) && this.#residents.lease(key);
  }

  release(key: ChunkKey): void {
    this.#residents.release(key);
  }

  pin(keys: readonly ChunkKey[], options: { readonly ttlMs: number }): PinOutcome {
    if (!keys.every((key) => this.has(key))) return 'missing';
    const outcome = this.#residents.pin(keys, options);
    if (outcome === 'pinned') this.#writeDown(keys);
    return outcome;
  }

  unpin(keys: readonly ChunkKey[]): void {
    const present = keys.filter((key) => this.has(key));
    this.#residents.unpin(present);
    this.#writeDown(present);
  }

  /**
   * To be called every few seconds: writes down how chunks were used, lets expired ones go, sees that the volume
   * keeps its free bytes, and opens again what was lost. Bounded work a call.
   */
  maintain(): void {
    this.#connection.retry();
    if (this.state !== 'open') return;
    this.#residents.expire();
    this.#writeDown([...this.#used].slice(0, USES_AT_ONCE));
    void this.#askFreeBytes();
  }

  /** Keeps all chunks on the disk. */
  close(): Promise<void> {
    return this.#connection.close((backend) => {
      backend.use(this.#usesOf([...this.#used]));
    });
  }

  /** Recounts everything and throws an `AssertionError` on a broken invariant. For tests and idle times. */
  audit(): void {
    this.#residents.audit();
    const all = [...this.#residents.all()];
    const present = all.filter((chunk) => this.#residents.get(chunk.key) === chunk);
    const foreign = present.filter((chunk) => !chunk.data.isOwn);
    assert.equal(this.#chunks, present.length - foreign.length);
    assert.equal(
      this.#foreignBytes,
      foreign.reduce((sum, { bytes }) => sum + bytes, 0),
    );
  }

  /** An own chunk that is present, while the store is open. */
  #find(key: ChunkKey): Resident<DiskChunk> | undefined {
    return this.state === 'open' ? this.#kept(key) : undefined;
  }

  /** The same also while the store opens again. */
  #kept(key: ChunkKey): Resident<DiskChunk> | undefined {
    if (this.state !== 'open' && this.state !== 'opening') return undefined;
    const chunk = this.#residents.get(key);
    return chunk?.data.isOwn ? chunk : undefined;
  }

  #loaded(chunk: Resident<DiskChunk>, result: ReadResult): LoadOutcome {
    const { key } = chunk;
    if (this.state !== 'open') return { outcome: 'unavailable' };
    if (this.#find(key) !== chunk) return { outcome: 'missing' }; // removed meanwhile
    const { outcome } = result;
    this.#transfers.countRead(outcome, this.chunkBytes);
    if (outcome === 'hit') return { ...result, isExact: chunk.data.isExact };
    if (outcome === 'unavailable') return { outcome };
    const reason = outcome === 'corrupt' ? 'corrupt' : 'failed';
    this.#residents.remove(key, reason);
    return { outcome: reason };
  }

  async #write(
    resident: Resident<DiskChunk>,
    bytes: Uint8Array,
    options: StoreOptions,
  ): Promise<WriteOutcome> {
    const { key, data, createdAtMs } = resident;
    const { checksum, isExact = true } = options;
    const draft = { ...data.identity, createdAtMs, isExact, checksum };
    this.#budget.moved(resident.bytes);
    this.#beingWrittenBytes += resident.bytes;
    const result = await this.#transfers.write({ draft, usage: usageOf(resident), bytes });
    this.#beingWrittenBytes -= resident.bytes;
    void this.#askFreeBytes();
    if (result.outcome !== 'stored') {
      this.#budget.moved(-resident.bytes);
      this.#residents.abort(key);
      return 'failed';
    }
    data.isExact = result.isExact;
    this.#residents.commit(key);
    this.#came(resident.bytes, data);
    return 'stored';
  }

  /** Learns what the volume has free, and lets chunks go if that is too little. */
  async #askFreeBytes(): Promise<void> {
    const backend = this.#connection.backend;
    if (backend === undefined || this.#isAskingFree) return;
    this.#isAskingFree = true;
    const freeBytes = await this.#connection.track(backend.freeBytes());
    this.#isAskingFree = false;
    this.#sawFreeBytes(freeBytes);
  }

  #sawFreeBytes(freeBytes: number | undefined): void {
    if (freeBytes === undefined) return;
    this.#budget.saw(freeBytes, this.#beingWrittenBytes);
    const shortageBytes = this.#budget.shortageBytes(this.usedBytes);
    if (shortageBytes > 0 && this.state === 'open') this.#residents.makeRoom(shortageBytes);
  }

  #beginTakeIn(): TakeIn {
    const taking = new DiskTakeIn({
      residents: this.#residents,
      leftMeanwhile: this.#leftMeanwhile,
      onLoaded: this.#onLoaded,
    });
    return {
      add: (found) => {
        for (const { bytes, data } of taking.add(found)) this.#came(bytes, data);
      },
      finish: async (backend, report) => {
        await taking.finish({ isWhole: true });
        this.#residents.setQuotas(this.#quotas);
        backend.remove([...this.#leftMeanwhile]);
        this.#leftMeanwhile.clear();
        this.#count(report);
        this.#sawFreeBytes(report.freeBytes);
      },
      abandon: () => taking.finish({ isWhole: false }),
    };
  }

  #count(report: LoadReport): void {
    this.#counters.droppedRows += report.droppedRows;
    this.#counters.orphansAdopted += report.orphansAdopted;
    this.#counters.orphansCollected += report.orphansCollected;
    if (report.isRebuilt) this.#counters.cataloguesRebuilt++;
  }

  #came(bytes: number, { isOwn }: DiskChunk): void {
    if (isOwn) this.#chunks++;
    else this.#foreignBytes += bytes;
  }

  #left(chunk: Resident<DiskChunk>, reason: EvictReason): void {
    const { key, bytes, data } = chunk;
    this.#used.delete(key);
    this.#budget.moved(-bytes);
    const backend = this.#connection.backend;
    if (backend === undefined) this.#leftMeanwhile.add(key);
    else backend.remove([key]);
    if (data.isOwn) this.#chunks--;
    else this.#foreignBytes -= bytes;
    if (data.isOwn) this.#onEvict(key, reason, chunk);
  }

  #writeDown(keys: readonly ChunkKey[]): void {
    const uses = this.#usesOf(keys);
    if (uses.length > 0) this.#connection.backend?.use(uses);
    for (const key of keys) this.#used.delete(key);
  }

  #usesOf(keys: readonly ChunkKey[]): UsageOf[] {
    return keys.flatMap((key) => {
      const chunk = this.#residents.get(key);
      return chunk === undefined ? [] : [{ key, usage: usageOf(chunk) }];
    });
  }
}

function usageOf(chunk: Resident<DiskChunk>): ChunkUsage {
  const { usedAtMs, hits, pinnedUntilMs, pinTtlMs, ttlMs, priority } = chunk;
  return { usedAtMs, hits, pinnedUntilMs, pinTtlMs, ttlMs, priority };
}

function onThread(options: DiskStoreOptions): OpenBackend {
  const { directory, fingerprint, layout, codec, encryptionKey } = options;
  return ({ isCatalogueLost, ...listener }) =>
    DiskThread.open({ directory, fingerprint, layout, codec, encryptionKey, isCatalogueLost }, listener);
}
