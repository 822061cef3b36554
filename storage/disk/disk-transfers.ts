/**
 * Chunks on their way to and from the disk: so many at once, counted, their speed measured. Writes pause while they
 * fail; reads never do. Knows no residents.
 */
import type { ChunkKey } from '../key.js';
import type { ReadResult, WriteRequest, WriteResult } from './backend.js';
import type { Backoff } from './backoff.js';
import type { DiskConnection } from './disk-connection.js';
import type { DiskCounters } from './disk-counters.js';
import { Gate } from './gate.js';
import { SpeedMeter, type Stopwatch } from './speed-meter.js';

/** More wait. */
const READS_AT_ONCE = 8;
/** One group commit, and the next. */
const WRITES_AT_ONCE = 32;

export class DiskTransfers {
  readonly #connection: DiskConnection;
  readonly #counters: DiskCounters;
  readonly #backoff: Backoff;
  readonly #reads = new Gate(READS_AT_ONCE);
  readonly #writes = new Gate(WRITES_AT_ONCE);
  readonly #readSpeed: SpeedMeter;
  readonly #writeSpeed: SpeedMeter;

  constructor(options: {
    readonly connection: DiskConnection;
    readonly counters: DiskCounters;
    /** Of writes. */
    readonly backoff: Backoff;
    readonly stopwatch: Stopwatch;
  }) {
    this.#connection = options.connection;
    this.#counters = options.counters;
    this.#backoff = options.backoff;
    this.#readSpeed = new SpeedMeter(options.stopwatch);
    this.#writeSpeed = new SpeedMeter(options.stopwatch);
  }

  /** As who waits for it sees it; undefined before the first. */
  get readBytesPerSecond(): number | undefined {
    return this.#readSpeed.bytesPerSecond;
  }

  /** Likewise. */
  get writeBytesPerSecond(): number | undefined {
    return this.#writeSpeed.bytesPerSecond;
  }

  /** Counted by who knows whether it still matters (`countRead`). */
  read(key: ChunkKey, into: Uint8Array): Promise<ReadResult> {
    const task = this.#reads.run(async (): Promise<ReadResult> => {
      const { backend } = this.#connection;
      if (backend === undefined) return { outcome: 'unavailable' };
      return this.#readSpeed.measure(
        () => backend.read(key, into),
        (result) => (result.outcome === 'hit' ? into.byteLength : 0),
      );
    });
    return this.#connection.track(task);
  }

  countRead(outcome: ReadResult['outcome'], bytes: number): void {
    switch (outcome) {
      case 'hit':
        this.#counters.readsHit++;
        this.#counters.readBytes += bytes;
        break;
      case 'corrupt':
        this.#counters.readsCorrupt++;
        break;
      case 'missing':
        this.#counters.missingFiles++;
        break;
      case 'failed':
        this.#counters.readsFailed++;
        break;
      case 'unavailable':
        break;
    }
  }

  /** Counts, and pauses what comes after a failure. */
  async write(request: WriteRequest): Promise<WriteResult> {
    const { bytes } = request;
    const result = await this.#writes.run(async (): Promise<WriteResult> => {
      const { backend } = this.#connection;
      if (backend === undefined || this.#backoff.isPaused) return { outcome: 'failed' };
      return this.#writeSpeed.measure(
        () => backend.write(request),
        ({ outcome }) => (outcome === 'stored' ? bytes.byteLength : 0),
      );
    });
    this.#countWrite(result.outcome, bytes.byteLength);
    return result;
  }

  #countWrite(outcome: WriteResult['outcome'], bytes: number): void {
    switch (outcome) {
      case 'stored':
        this.#backoff.succeeded();
        this.#counters.writesStored++;
        this.#counters.writtenBytes += bytes;
        break;
      case 'corrupt':
        this.#counters.writesCorrupt++;
        break;
      case 'noSpace':
        this.#counters.noSpace++;
        this.#backoff.failed();
        break;
      case 'failed':
        this.#counters.writesFailed++;
        this.#backoff.failed();
        break;
    }
  }
}
