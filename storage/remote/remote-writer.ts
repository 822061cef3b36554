/**
 * Chunks on their way from host memory to the remote tier, in the background, in batches.
 *
 * | write policy              | a chunk is offered                                   |
 * |---------------------------|------------------------------------------------------|
 * | `write-through`           | when it is sealed, and when it is used               |
 * | `write-through-selective` | when requests have used it `writeHits` times         |
 * | `off`                     | never: the tier is only read                         |
 *
 * A chunk goes after its ancestors. While it waits it is not held: what leaves host memory meanwhile is skipped
 * (`lost`), and more than `queueBytesMax` do not wait (`overflowed`), so that a slow server fills no memory. Of a batch,
 * what is there already is not written, nor what its namespace has no room for. Who refuses writes is left alone for a
 * while, twice as long each time; reads are not touched by it.
 *
 * What is there is remembered for a part of the TTL, so that a chunk that is used all the time is asked about now and
 * then, and written again when it has gone.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.js';
import { Backoff } from '../disk/backoff.js';
import { type ChunkFile, type ChunkFormat, WORD_BYTES } from '../disk/chunk-format.js';
import type { HostStore } from '../host-store.js';
import type { ChunkKey } from '../key.js';
import { slotBytes } from '../slab.js';
import type { ChunkIdentity } from '../store.js';
import { NamespaceBudget, type Reservation } from './namespace-budget.js';
import type { RemoteConnection } from './remote-connection.js';
import type { RemoteCounters } from './remote-counters.js';
import { RemoteError } from './remote-link.js';

export const REMOTE_WRITE_POLICIES = ['write-through', 'write-through-selective', 'off'] as const;
export type RemoteWritePolicy = (typeof REMOTE_WRITE_POLICIES)[number];

/** Encoded at once, in memory beside the host tier; at least one chunk. */
const BATCH_BYTES_MAX = 8 << 20;

/** However small they are. */
const BATCH_CHUNKS_MAX = 256;

/** Answered within this time, or the connection is given up. */
const BATCH_TIMEOUT_MS = 10_000;

/** Keys that are known to be there: some 150 bytes each. */
const KNOWN_MAX = 200_000;

/** They are, for this share of the TTL. */
const KNOWN_SHARE = 1 / 4;

/** Chunks that wait to be forgotten; more are left to their TTL. */
const UNLINKS_MAX = 100_000;

/** Of them, in one request. */
const UNLINKS_AT_ONCE = 1000;

/** The longest time for which a server that refuses writes is left alone. */
const PAUSE_MS_MAX = 8000;

/** Between two looks at whether writing may go on. */
const RETRY_MS = 500;

export interface RemoteWriterOptions {
  readonly host: HostStore;
  readonly connection: RemoteConnection;
  readonly counters: RemoteCounters;
  readonly format: ChunkFormat;
  readonly keyOf: (key: ChunkKey) => string;
  readonly keyPrefix: string;
  readonly clock: Clock;
  readonly policy: RemoteWritePolicy;
  /** Uses after which `write-through-selective` writes. */
  readonly writeHits: number;
  readonly ttlMs: number;
  /** Of each owner; 0: no limit. */
  readonly namespaceBytes: number;
  /** Whose budget a namespace counts against. */
  readonly ownerOf: (namespace: string) => string;
  readonly queueBytesMax: number;
  readonly onStored: (chunk: ChunkIdentity) => void;
}

interface EncodedChunk {
  readonly chunk: ChunkIdentity;
  /** Lies in a buffer that is used again when it was written. */
  readonly value: Buffer;
}

type ReservedChunk = EncodedChunk & { readonly reservation: Reservation };

export class RemoteWriter {
  readonly #options: RemoteWriterOptions;
  readonly #budget: NamespaceBudget;
  readonly #backoff: Backoff;
  readonly #waiting = new Set<ChunkKey>();
  readonly #unlinks = new Set<ChunkKey>();
  readonly #known: LRUCache<ChunkKey, number>;
  /** To encode into: fresh memory would cost as much again as the copy. */
  readonly #buffers: Buffer[] = [];
  /** Removed while something was being written: if it was one of these, it goes afterwards. */
  readonly #removed = new Set<ChunkKey>();
  #writing = 0;
  /** The batch before, whose values are on their way. */
  #storing: Promise<void> = Promise.resolve();
  #isPumping = false;
  #isClosed = false;
  #retry: NodeJS.Timeout | undefined;
  #idleWaiters: (() => void)[] = [];

  constructor(options: RemoteWriterOptions) {
    const { clock, ttlMs, namespaceBytes: budgetBytes, keyPrefix } = options;
    this.#options = options;
    this.#budget = new NamespaceBudget({ clock, ttlMs, budgetBytes, keyPrefix });
    this.#backoff = new Backoff(clock, { pauseMsMax: PAUSE_MS_MAX });
    this.#known = new LRUCache({ max: KNOWN_MAX });
  }

  /** Chunks that wait or are being written. */
  get length(): number {
    return this.#waiting.size + this.#writing;
  }

  /** Whether the server refused a write a moment ago. */
  get isPaused(): boolean {
    return this.#backoff.isPaused;
  }

  /** A chunk of host memory was computed. */
  sealed(key: ChunkKey): void {
    if (this.#options.policy === 'write-through') this.#offer(key);
  }

  /** Requests used chunks, a path, deepest first. */
  used(keys: readonly ChunkKey[]): void {
    const { policy, host, writeHits } = this.#options;
    if (policy === 'off') return;
    for (const key of keys.toReversed()) {
      if (policy === 'write-through' || host.hits(key) >= writeHits) this.#offer(key);
    }
  }

  /** A chunk is there. */
  saw(key: ChunkKey): void {
    const { clock, ttlMs } = this.#options;
    this.#known.set(key, clock.now() + ttlMs * KNOWN_SHARE);
  }

  /** Forgets a chunk there, whether it is known to be or not. */
  remove(key: ChunkKey): void {
    this.#waiting.delete(key);
    this.#known.delete(key);
    if (this.#writing > 0) this.#removed.add(key);
    if (this.#unlinks.size >= UNLINKS_MAX) return;
    this.#unlinks.add(key);
    this.#pump();
  }

  /** The connection is back: what waits goes on. */
  resume(): void {
    this.#pump();
  }

  /** Resolves when nothing waits; not while the server can't be reached. */
  flushed(): Promise<void> {
    if (this.#isIdle) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /** Gives up what waits. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    this.#options.counters.writes.lost += this.#waiting.size;
    this.#waiting.clear();
    this.#unlinks.clear();
    this.#settle();
  }

  get #isIdle(): boolean {
    return !this.#hasWork && this.#writing === 0 && !this.#isPumping;
  }

  get #hasWork(): boolean {
    return this.#waiting.size + this.#unlinks.size > 0;
  }

  get #canWrite(): boolean {
    return this.#options.connection.isUsable && !this.#backoff.isPaused;
  }

  #isKnown(key: ChunkKey): boolean {
    const untilMs = this.#known.get(key);
    return untilMs !== undefined && this.#options.clock.now() < untilMs;
  }

  #offer(key: ChunkKey): void {
    const { host, counters, queueBytesMax } = this.#options;
    if (this.#isClosed) return;
    const path: ChunkKey[] = [];
    for (let at: ChunkKey | undefined = key; at !== undefined && this.#isNew(at); ) {
      path.push(at);
      at = host.identity(at)?.parent;
    }
    for (const next of path.toReversed()) {
      if ((this.#waiting.size + 1) * host.chunkBytes <= queueBytesMax) this.#waiting.add(next);
      else counters.writes.overflowed++;
    }
    if (path.length > 0) this.#pump();
  }

  #isNew(key: ChunkKey): boolean {
    return !this.#waiting.has(key) && !this.#isKnown(key) && this.#options.host.has(key);
  }

  #pump(): void {
    if (this.#isPumping || this.#isClosed) return;
    this.#isPumping = true;
    void this.#drain().finally(() => {
      this.#isPumping = false;
      // Something may have come while the last batch was on its way.
      if (this.#hasWork && this.#canWrite) this.#pump();
      else this.#settle();
    });
  }

  async #drain(): Promise<void> {
    await nextTurn(); // what is sealed together goes together
    await this.#writeAll();
    await this.#storing;
    this.#removed.clear();
  }

  async #writeAll(): Promise<void> {
    while (this.#hasWork) {
      if (!this.#canWrite) {
        clearTimeout(this.#retry);
        if (!this.#isClosed) this.#retry = setTimeout(() => this.#pump(), RETRY_MS).unref();
        return;
      }
      try {
        await this.#unlinkSome();
        await this.#writeBatch(this.#takeBatch());
      } catch (error) {
        if (!(error instanceof RemoteError)) throw error;
        this.#backoff.failed();
      }
    }
  }

  #takeBatch(): ChunkKey[] {
    const chunks = Math.max(1, Math.floor(BATCH_BYTES_MAX / this.#options.host.chunkBytes));
    const batch = [...this.#waiting].slice(0, Math.min(chunks, BATCH_CHUNKS_MAX));
    for (const key of batch) this.#waiting.delete(key);
    return batch;
  }

  async #unlinkSome(): Promise<void> {
    const { connection, keyOf } = this.#options;
    const keys = [...this.#unlinks].slice(0, UNLINKS_AT_ONCE);
    if (keys.length === 0) return;
    await this.#inTime(connection.ask('unlink', (link) => link.unlink(keys.map(keyOf))));
    for (const key of keys) this.#unlinks.delete(key);
  }

  /** @throws RemoteError when it must not go on for a while */
  async #writeBatch(batch: readonly ChunkKey[]): Promise<void> {
    const { counters, connection, keyOf } = this.#options;
    if (batch.length === 0) return;
    this.#writing += batch.length;
    let left = batch.length;
    try {
      const arePresent = await this.#inTime(
        connection.ask('exists', (link) => link.present(batch.map(keyOf))),
      );
      for (const [i, key] of batch.entries()) if (arePresent[i]) this.saw(key);
      const absent = batch.filter((_, i) => !arePresent[i]);
      left = absent.length;
      counters.writes.present += batch.length - absent.length;
      const encoded = await this.#encode(absent);
      left = encoded.length;
      const reserved = await this.#reserve(encoded);
      left = 0;
      // The next batch is encoded while this one is on its way.
      await this.#storing;
      this.#writing += reserved.length;
      this.#storing = this.#store(reserved).finally(() => {
        this.#writing -= reserved.length;
      });
    } finally {
      counters.writes.refused += left;
      this.#writing -= batch.length;
    }
  }

  /** Copies of what host memory still has. */
  async #encode(keys: readonly ChunkKey[]): Promise<EncodedChunk[]> {
    const { host, format, clock, counters } = this.#options;
    const encoded: EncodedChunk[] = [];
    for (const key of keys) {
      await nextTurn(); // a chunk takes a millisecond or two, and others have work too
      const chunk = host.identity(key);
      const place = host.lookup(key);
      if (chunk === undefined || place === undefined) {
        counters.writes.lost++;
        continue;
      }
      const draft = {
        ...chunk,
        createdAtMs: clock.now(),
        isExact: host.exactOf(key)!,
        checksum: place.checksum,
      };
      const file = format.encode(draft, slotBytes(host.slab, place.slot));
      if (file === undefined) counters.writes.corrupt++;
      else encoded.push({ chunk, value: this.#copyOf(file) });
    }
    return encoded;
  }

  /** Its payload, the last part, stands at a multiple of a word. */
  #copyOf({ parts, fileBytes }: ChunkFile): Buffer {
    const free = this.#buffers.findIndex(({ byteLength }) => byteLength >= fileBytes + WORD_BYTES);
    const [buffer = Buffer.allocUnsafeSlow(fileBytes + WORD_BYTES)] =
      free < 0 ? [] : this.#buffers.splice(free, 1);
    const headBytes = fileBytes - parts.at(-1)!.byteLength;
    const start = WORD_BYTES - (headBytes % WORD_BYTES);
    const value = buffer.subarray(start, start + fileBytes);
    let at = 0;
    for (const part of parts) {
      value.set(part, at);
      at += part.byteLength;
    }
    return value;
  }

  /** A value is used no more. */
  #free({ value }: EncodedChunk): void {
    const buffersMax = Math.min(Math.ceil((2 * BATCH_BYTES_MAX) / value.byteLength), BATCH_CHUNKS_MAX);
    if (this.#buffers.length < buffersMax) this.#buffers.push(Buffer.from(value.buffer));
  }

  async #reserve(encoded: readonly EncodedChunk[]): Promise<ReservedChunk[]> {
    const { connection, counters, ownerOf } = this.#options;
    const reserved: ReservedChunk[] = [];
    const byOwner = new Map<string, EncodedChunk[]>();
    for (const each of encoded) {
      const owner = ownerOf(each.chunk.namespace);
      byOwner.set(owner, [...(byOwner.get(owner) ?? []), each]);
    }
    for (const [owner, chunks] of byOwner) {
      const sizes = chunks.map(({ value }) => value.byteLength);
      const reservations = await this.#inTime(
        connection.ask('budget', (link) => this.#budget.reserve(link, owner, sizes)),
      );
      for (const [i, each] of chunks.entries()) {
        const reservation = reservations[i];
        if (reservation === undefined) {
          counters.writes.over_budget++;
          this.#free(each);
        } else reserved.push({ ...each, reservation });
      }
    }
    return reserved;
  }

  async #store(reserved: readonly ReservedChunk[]): Promise<void> {
    const { connection, counters, keyOf, ttlMs, onStored } = this.#options;
    const writes = reserved.map(({ chunk, value }) =>
      connection.ask('set', (link) => link.set(keyOf(chunk.key), value, ttlMs)),
    );
    // Also when it is late: then the connection is given up, which ends each of them.
    const written = Promise.allSettled(writes);
    await this.#inTime(written).catch(() => {});
    const outcomes = await written;
    for (const each of reserved) this.#free(each);
    const failed: Reservation[] = [];
    let failure: unknown;
    for (const [i, { chunk, value, reservation }] of reserved.entries()) {
      const outcome = outcomes[i]!;
      if (outcome.status === 'rejected') {
        failed.push(reservation);
        failure = outcome.reason;
        continue;
      }
      counters.writes.stored++;
      counters.writtenBytes += value.byteLength;
      if (this.#removed.has(chunk.key)) this.#unlinks.add(chunk.key);
      else this.saw(chunk.key);
      onStored(chunk);
    }
    if (failed.length === 0) {
      this.#backoff.succeeded();
      return;
    }
    counters.writes.refused += failed.length;
    this.#refused(failure);
    await this.#inTime(connection.ask('budget', (link) => this.#budget.giveBack(link, failed))).catch(
      () => {}, // they are counted until their slice of time is over
    );
  }

  #refused(error: unknown): void {
    if (!(error instanceof RemoteError)) throw error;
    this.#backoff.failed();
    // Another server may be the master by now; connecting anew finds it.
    if (error.kind === 'read_only') this.#options.connection.notMaster();
  }

  /** @throws RemoteError `timeout`, and gives the connection up */
  async #inTime<T>(work: Promise<T>): Promise<T> {
    const { connection } = this.#options;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        connection.trip('timeout');
        reject(new RemoteError('timeout'));
      }, BATCH_TIMEOUT_MS);
    });
    work.catch(() => {}); // when it is late
    try {
      return await Promise.race([work, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #settle(): void {
    if (!this.#isIdle) return;
    for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }
}
