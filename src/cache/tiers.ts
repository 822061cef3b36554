/**
 * The tiers below the device, to be looked after: measures both sides of the break-even at start-up, does upkeep now
 * and then, flushes at the end, and tells what happened between memory and disk.
 */
import {
  DiskError,
  type DiskStore,
  type KvLayout,
  type OwnerHolding,
  type RemoteStore,
  type TieredStore,
  type TierName,
} from '#storage';
import type { Engine } from '../engine/engine.js';
import { RadixkvError } from '../errors.js';
import type { BreakEven } from './break-even.js';
import type { PrefixCache } from './prefix-cache.js';
import type { RemotePulls } from './remote-pulls.js';

/** How often the tiers are looked after. */
const MAINTAIN_MS = 5000;

/** How long a stopping server goes on to write what its write policies owe the tiers below. */
const FLUSH_TIMEOUT_MS = 10_000;

/** How long a start waits for the disk and the remote tier beyond the engine; it goes on to open beside the server. */
const OPEN_WAIT_MS = 250;

/** Tokens of a tile that measures prefill; the first of two tiles pages the weights in and does not count. */
const PROBE_TOKENS = 64;

/** Chunks that are read to measure the disk. */
const PROBE_CHUNKS = 4;

/** No run of the cache has this number. */
const PROBE_RUN = -1;

export class Tiers {
  readonly prefixes: PrefixCache;
  /** What brings chunks from the remote tier; undefined without one. */
  readonly pulls: RemotePulls | undefined;
  readonly #remote: RemoteStore | undefined;
  readonly #store: TieredStore;
  readonly #disk: DiskStore | undefined;
  readonly #layout: KvLayout;
  readonly #breakEven: BreakEven;
  readonly #isMeasured: boolean;
  readonly #timer: NodeJS.Timeout;

  constructor(parts: {
    readonly prefixes: PrefixCache;
    readonly store: TieredStore;
    readonly disk: DiskStore | undefined;
    readonly layout: KvLayout;
    readonly breakEven: BreakEven;
    readonly isMeasured: boolean;
    readonly remote?: RemoteStore;
    readonly pulls?: RemotePulls;
  }) {
    this.prefixes = parts.prefixes;
    this.pulls = parts.pulls;
    this.#remote = parts.remote;
    this.#store = parts.store;
    this.#disk = parts.disk;
    this.#layout = parts.layout;
    this.#breakEven = parts.breakEven;
    this.#isMeasured = parts.isMeasured;
    this.#timer = setInterval(() => this.#store.maintain(), MAINTAIN_MS).unref();
  }

  /**
   * Waits a moment for the disk and the remote tier, so that what is there is found at once, and a directory that can't
   * be used is refused at the start.
   *
   * @throws RadixkvError `invalid_value`
   */
  async opened(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const moment = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, OPEN_WAIT_MS);
    });
    try {
      await Promise.race([Promise.all([this.prefixes.opened, this.#remote?.attempted]), moment]);
    } catch (cause) {
      if (!(cause instanceof DiskError)) throw cause;
      const message = `--disk-dir can't be used: ${cause.message}`;
      throw new RadixkvError('invalid_value', message, { param: '--disk-dir', cause });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Measures prefill, and loads if there is something to load: what both are compared by. */
  async measure(engine: Engine): Promise<void> {
    if (!this.#isMeasured || (this.#disk ?? this.#remote) === undefined) return;
    await this.#measurePrefill(engine);
    if (this.#disk !== undefined) await this.#measureLoads(this.#disk);
  }

  /** What happened between memory and the remote tier; undefined without one. */
  remoteReading() {
    return this.#remote?.reading();
  }

  /** Tells what operations of the remote tier take, in milliseconds. */
  onRemoteTimed(listener: RemoteStore['onTimed']): void {
    if (this.#remote !== undefined) this.#remote.onTimed = listener;
  }

  /** What happened between memory and disk; undefined without a disk. */
  reading() {
    if (this.#disk === undefined) return undefined;
    const { writes, queued, promoted, promotionsRefused, promotionsMissed, writesNotWorth } =
      this.#store.reading();
    const {
      writtenBytes,
      readBytes,
      writesStored: _stored,
      readsHit: _hit,
      ...faults
    } = this.#disk.reading().counters;
    return {
      state: this.#disk.state,
      readBytes,
      writtenBytes,
      queuedChunks: queued,
      demotions: { ...writes, not_worth: writesNotWorth },
      promotions: { done: promoted, refused: promotionsRefused, missed: promotionsMissed },
      faults: snakeCased(faults),
    };
  }

  /** Says how many bytes owners may take in each tier; who is not named may take as many as there are. */
  setQuotas({ host, disk }: Readonly<Record<TierName, ReadonlyMap<string, number>>>): void {
    this.#store.host.setQuotas(host);
    this.#disk?.setQuotas(disk);
  }

  /** What each owner takes of each tier. */
  owners(): Readonly<Record<TierName, ReadonlyMap<string, OwnerHolding>>> {
    return { host: this.#store.host.owners(), disk: this.#disk?.owners() ?? new Map() };
  }

  /** Forgets what other models left on the disk. @returns chunks */
  clearForeign(): number {
    return this.#disk?.removeForeign() ?? 0;
  }

  /** Writes what is owed to the tiers below, for a bounded time. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, FLUSH_TIMEOUT_MS);
    });
    await this.#store.close(timeout);
    clearTimeout(timer);
    await this.#remote?.close();
  }

  async #measurePrefill(engine: Engine): Promise<void> {
    await engine.call({ op: 'createRun', run: PROBE_RUN, capacityTokens: 2 * PROBE_TOKENS });
    for (const start of [0, PROBE_TOKENS]) {
      const tokens = new Int32Array(PROBE_TOKENS);
      const { ms } = await engine.call({ op: 'prefill', run: PROBE_RUN, start, tokens, samplers: [] });
      if (start > 0) {
        this.#breakEven.prefilled(PROBE_TOKENS, ms);
        this.pulls?.prefilled(PROBE_TOKENS, ms);
      }
    }
    await engine.call({ op: 'freeRun', run: PROBE_RUN });
  }

  async #measureLoads(disk: DiskStore): Promise<void> {
    const into = new Uint8Array(new SharedArrayBuffer(this.#layout.chunkBytes));
    for (const key of this.prefixes.someKeys(PROBE_CHUNKS)) {
      const startedAt = performance.now();
      const outcome = await disk.read(key, into);
      if (outcome === 'hit') this.#breakEven.loaded(into.byteLength, performance.now() - startedAt);
    }
  }
}

function snakeCased(counts: Readonly<Record<string, number>>): Record<string, number> {
  const named = Object.entries(counts).map(([name, count]) => {
    return [name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), count] as const;
  });
  return Object.fromEntries(named);
}
