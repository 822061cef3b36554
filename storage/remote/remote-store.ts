/**
 * The remote tier: chunks in a Redis or Valkey that nodes share. What one of them computed, the others find.
 *
 * A value is what a chunk's file on disk is (disk/chunk-format.ts), head and payload, under the name
 * `radixkv:1:<model>:<encryption key>:<key of the chunk>`: chunks of another model, layout or encryption key have other
 * names. Everything in a value is compared with what is looked for, and the decoded chunk with its checksum: any doubt
 * is a miss, and the value is removed.
 *
 * What is there is not known here, since others write it: who wants chunks asks which of them are present, in one round
 * trip, and reads those up to the first that is not. Both are bounded by a deadline of who asks. Nothing here ever
 * throws for what the server does: it is counted, and a miss.
 */
import assert from 'node:assert/strict';
import type { Checksum } from '../checksum.js';
import type { Clock } from '../clock.js';
import type { CodecName } from '../codec.js';
import type { ChunkCipher } from '../disk/chunk-cipher.js';
import { ChunkFormat } from '../disk/chunk-format.js';
import { Gate } from '../disk/gate.js';
import type { Stopwatch } from '../disk/speed-meter.js';
import type { HostStore } from '../host-store.js';
import type { ChunkKey } from '../key.js';
import type { KvLayout } from '../layout.js';
import type { ChunkIdentity } from '../store.js';
import type { BreakerState } from './breaker.js';
import { RemoteConnection } from './remote-connection.js';
import { type RemoteOperation, zeroRemoteCounters } from './remote-counters.js';
import { type ConnectRemote, RemoteError } from './remote-link.js';
import { type RemoteWritePolicy, RemoteWriter } from './remote-writer.js';

/** Values under way at once, of all prompts together. */
const READS_AT_ONCE = 8;

export interface RemoteStoreOptions {
  readonly connect: ConnectRemote;
  /** Whether another server may become the master: Sentinel and Cluster. */
  readonly canMove: boolean;
  /** Of the model and of all else that makes KV what it is: nodes that differ in it share nothing. */
  readonly fingerprint: string;
  readonly layout: KvLayout;
  readonly codec: CodecName;
  readonly checksum: Checksum;
  readonly cipher?: ChunkCipher | undefined;
  readonly clock: Clock;
  /** For deadlines and measured times. */
  readonly stopwatch: Stopwatch;
  readonly writePolicy: RemoteWritePolicy;
  readonly writeHits: number;
  /** Of a value, from when it is written. */
  readonly ttlMs: number;
  /** Of what an owner wrote within a TTL; 0: no limit. */
  readonly namespaceBytes: number;
  /** Whose budget a namespace counts against. */
  readonly ownerOf: (namespace: string) => string;
  /** Of chunks that wait to be written. */
  readonly queueBytesMax: number;
  /** This node has written a chunk. */
  readonly onStored?: ((chunk: ChunkIdentity) => void) | undefined;
  readonly onState?: ((state: BreakerState, reason: string | undefined) => void) | undefined;
  /** A probe after a failure read so many bytes. */
  readonly onProbed?: ((bytes: number, ms: number) => void) | undefined;
}

/** A chunk to be read, and where to. */
export interface WantedChunk {
  readonly chunk: ChunkIdentity;
  /** `chunkBytes` long; may be written to until `load` resolves. */
  readonly into: Uint8Array;
}

/** As `LoadOutcome` of a hit. */
export interface LoadedValue {
  readonly checksum: bigint;
  readonly isExact: boolean;
}

export class RemoteStore {
  /** Told what operations took, in milliseconds, however they ended. */
  onTimed: (operation: RemoteOperation, ms: number) => void = () => {};
  readonly #options: RemoteStoreOptions;
  readonly #format: ChunkFormat;
  readonly #namePrefix: string;
  readonly #counters = zeroRemoteCounters();
  readonly #connection: RemoteConnection;
  readonly #reads = new Gate(READS_AT_ONCE);
  #writer: RemoteWriter | undefined;

  /** Begins to connect. Asserts that the codec suits the layout. */
  constructor(options: RemoteStoreOptions) {
    const { layout, codec, checksum, cipher, fingerprint, stopwatch } = options;
    this.#options = options;
    this.#format = new ChunkFormat({ fingerprint, layout, codec, checksum, cipher });
    const model = this.#format.fingerprint.toString('hex', 0, 8);
    this.#namePrefix = `radixkv:1:${model}:${this.#format.keyId.toString('hex')}:`;
    this.#connection = new RemoteConnection({
      connect: options.connect,
      canMove: options.canMove,
      counters: this.#counters,
      clock: options.clock,
      stopwatch,
      onProbed: options.onProbed ?? (() => {}),
      onTimed: (operation, ms) => this.onTimed(operation, ms),
      onState: (state, reason) => {
        options.onState?.(state, reason);
        if (state === 'closed') this.#writer?.resume();
      },
    });
  }

  /** Has chunks of host memory written. To be called once. */
  writeFrom(host: HostStore): RemoteWriter {
    const { clock, writePolicy, writeHits, ttlMs, namespaceBytes, ownerOf, queueBytesMax } = this.#options;
    assert(this.#writer === undefined);
    this.#writer = new RemoteWriter({
      host,
      connection: this.#connection,
      counters: this.#counters,
      format: this.#format,
      keyOf: (key) => this.#nameOf(key),
      keyPrefix: 'radixkv:1:',
      clock,
      policy: writePolicy,
      writeHits,
      ttlMs,
      namespaceBytes,
      ownerOf,
      queueBytesMax,
      onStored: this.#options.onStored ?? (() => {}),
    });
    return this.#writer;
  }

  /** Resolves when the first attempt to connect has ended; never rejects. */
  get attempted(): Promise<void> {
    return this.#connection.attempted;
  }

  /** Whether asking is of any use now. */
  get isUsable(): boolean {
    return this.#connection.isUsable;
  }

  /** How many of the chunks, from the first on, are there: one round trip. 0 when that is not known by `untilMs`. */
  async present(keys: readonly ChunkKey[], untilMs: number): Promise<number> {
    const names = keys.map((key) => this.#nameOf(key));
    const unanswered = { keys: names };
    const asked = this.#connection
      .ask('exists', (link) => link.present(names), { isRead: true, unanswered })
      .catch(missed);
    const arePresent = await this.#connection.within(asked, untilMs, unanswered);
    if (arePresent === undefined) return 0;
    const absent = arePresent.indexOf(false);
    return absent < 0 ? keys.length : absent;
  }

  /** Reads chunks in order, up to the first that is a miss: those that came by `untilMs`, each verified. */
  async load(wanted: readonly WantedChunk[], untilMs: number): Promise<LoadedValue[]> {
    const loaded: (LoadedValue | undefined)[] = [];
    let next = 0;
    let end = wanted.length;
    const state = { isOver: false };
    const lane = async (): Promise<void> => {
      while (!state.isOver && next < end) {
        const i = next++;
        const value = await this.#reads.run(async () => {
          return state.isOver || i >= end ? undefined : this.#load(wanted[i]!, () => state.isOver);
        });
        if (value === undefined) end = Math.min(end, i);
        else loaded[i] = value;
      }
    };
    const work = Promise.all(Array.from({ length: READS_AT_ONCE }, lane));
    const first = wanted[0] && { value: this.#nameOf(wanted[0].chunk.key) };
    const done = await this.#connection.within(work, untilMs, first ?? {});
    // From here on nobody writes to the buffers.
    state.isOver = true;
    let hits = 0;
    while (hits < end && loaded[hits] !== undefined) hits++;
    if (done === undefined) this.#counters.reads.late += end - hits;
    return loaded.slice(0, hits).filter((value) => value !== undefined);
  }

  reading() {
    const { requests, errors, reads, writes, readBytes, writtenBytes } = this.#counters;
    return {
      ...this.#connection.reading(),
      isWritingPaused: this.#writer?.isPaused ?? false,
      queuedChunks: this.#writer?.length ?? 0,
      readBytes,
      writtenBytes,
      requests: structuredClone(requests),
      errors: { ...errors },
      reads: { ...reads },
      writes: { ...writes },
    };
  }

  async close(): Promise<void> {
    this.#writer?.close();
    await this.#connection.close();
  }

  async #load({ chunk, into }: WantedChunk, isOver: () => boolean): Promise<LoadedValue | undefined> {
    const { reads } = this.#counters;
    const name = this.#nameOf(chunk.key);
    const value = await this.#connection
      .ask('get', (link) => link.get(name), { isRead: true, unanswered: { value: name } })
      .catch(missed);
    if (isOver()) return undefined;
    if (value === undefined) {
      reads.missing++;
      return undefined;
    }
    this.#counters.readBytes += value.byteLength;
    const opened = this.#format.open(value, chunk, into);
    if (opened === undefined) {
      reads.corrupt++;
      this.#writer?.remove(chunk.key);
      return undefined;
    }
    reads.hit++;
    this.#writer?.saw(chunk.key);
    return opened;
  }

  #nameOf(key: ChunkKey): string {
    return this.#namePrefix + key;
  }
}

/** What could not be asked is counted where it was, and a miss here. */
function missed(error: unknown): undefined {
  if (!(error instanceof RemoteError)) throw error;
  return undefined;
}
