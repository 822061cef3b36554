/**
 * Puts the tiers below the device together, host memory and the disk where there is one, and looks after them:
 * measures both sides of the break-even at start-up, has the disk tier looked after now and then, flushes it at the
 * end, and tells what it did.
 */

import type { Logger } from 'pino';
import {
  type Clock,
  type CodecName,
  createChecksum,
  DiskError,
  DiskStore,
  HostStore,
  type KvLayout,
  suitsLayout,
  TieredStore,
} from '#storage';
import type { DiskCodecOption, ServeOptions } from '../config/options.js';
import type { Engine } from '../engine/engine.js';
import { RadixkvError } from '../errors.js';
import type { BreakEven } from './break-even.js';
import { PrefixCache } from './prefix-cache.js';

export interface DiskOptions {
  readonly directory: string;
  /** Of the whole directory. */
  readonly capacityBytes: number;
  /** To be left free on the volume. */
  readonly freeBytesMin: number;
  readonly codec: DiskCodecOption;
  /** 32 bytes; absent: chunks are not encrypted. */
  readonly encryptionKey?: Buffer;
}

export type TierOptions = Pick<
  ServeOptions,
  'hostBytes' | 'writePolicy' | 'writeHits' | 'eviction' | 'breakEven'
> & {
  /** Absent: nothing outlives the process. */
  readonly disk?: DiskOptions;
  readonly logger?: Logger;
};

const CLOCK: Clock = { now: () => Date.now() };

/** How often the tiers are looked after. */
const MAINTAIN_MS = 5000;

/** How long a stopping server goes on to write what its write policy owes the disk. */
const FLUSH_TIMEOUT_MS = 10_000;

/** How long a start waits for the disk tier, which goes on to open beside the server. */
const OPEN_WAIT_MS = 1000;

/** Tokens of a tile that measures prefill; the first of two tiles pages the weights in and does not count. */
const PROBE_TOKENS = 64;

/** Chunks that are read to measure the disk. */
const PROBE_CHUNKS = 4;

/** No run of the cache has this number. */
const PROBE_RUN = -1;

export class Tiers {
  readonly prefixes: PrefixCache;
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
  }) {
    this.prefixes = parts.prefixes;
    this.#store = parts.store;
    this.#disk = parts.disk;
    this.#layout = parts.layout;
    this.#breakEven = parts.breakEven;
    this.#isMeasured = parts.isMeasured;
    this.#timer = setInterval(() => this.#store.maintain(), MAINTAIN_MS).unref();
  }

  /** Measures prefill, and loads if there is something to load: what both are compared by. */
  async measure(engine: Engine): Promise<void> {
    if (this.#disk === undefined || !this.#isMeasured) return;
    await this.#measurePrefill(engine);
    await this.#measureLoads(this.#disk);
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

  /** Writes what is owed to the disk, for a bounded time. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, FLUSH_TIMEOUT_MS);
    });
    await this.#store.close(timeout);
    clearTimeout(timer);
  }

  async #measurePrefill(engine: Engine): Promise<void> {
    await engine.call({ op: 'createRun', run: PROBE_RUN, capacityTokens: 2 * PROBE_TOKENS });
    for (const start of [0, PROBE_TOKENS]) {
      const tokens = new Int32Array(PROBE_TOKENS);
      const { ms } = await engine.call({ op: 'prefill', run: PROBE_RUN, start, tokens, samplers: [] });
      if (start > 0) this.#breakEven.prefilled(PROBE_TOKENS, ms);
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

/**
 * The tiers below the device; undefined when host memory holds not even one chunk.
 *
 * @throws RadixkvError `invalid_value` when the disk tier's directory can't be used.
 */
export async function createTiers(
  options: TierOptions,
  model: { readonly layout: KvLayout; readonly fingerprint: string; readonly breakEven: BreakEven },
): Promise<Tiers | undefined> {
  const { layout, fingerprint, breakEven } = model;
  if (options.hostBytes < layout.chunkBytes) return undefined;
  const checksum = await createChecksum();
  const common = { clock: CLOCK, policy: options.eviction };
  let store: TieredStore | undefined;
  let disk: DiskStore | undefined;
  const prefixes = new PrefixCache({
    layout,
    fingerprint,
    store: ({ evict, tierEvict, loaded }) => {
      const { chunkBytes, chunkTokens } = layout;
      const capacityBytes = options.hostBytes;
      store = new TieredStore({
        host: (onEvict) => new HostStore({ ...common, chunkBytes, capacityBytes, checksum, onEvict }),
        ...(options.disk && {
          disk: (onEvict) => {
            disk = DiskStore.open({
              ...common,
              ...options.disk!,
              codec: codecFor(options.disk!.codec, layout),
              layout,
              fingerprint,
              stopwatch: () => performance.now(),
              onEvict,
              onLoaded: loaded,
            });
            return disk;
          },
        }),
        writePolicy: options.writePolicy,
        writeHits: options.writeHits,
        isWorthWriting: () => breakEven.isWorth(chunkBytes, chunkTokens),
        onEvict: evict,
        onTierEvict: tierEvict,
      });
      return store;
    },
  });
  const isMeasured = options.breakEven === 'auto';
  const tiers = new Tiers({ prefixes, store: store!, disk, layout, breakEven, isMeasured });
  if (disk !== undefined) await opening(disk, tiers, options);
  return tiers;
}

/** Waits a moment for the disk tier, so that a directory that can't be used is refused at the start. */
async function opening(disk: DiskStore, tiers: Tiers, { disk: options, logger }: TierOptions): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const moment = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, OPEN_WAIT_MS);
  });
  disk.opened.catch((error: unknown) => logger?.error({ error }, 'the disk tier can not be used'));
  try {
    await Promise.race([disk.opened, moment]);
  } catch (cause) {
    await tiers.close();
    if (!(cause instanceof DiskError)) throw cause;
    const message = `--disk-dir ${options!.directory} can't be used: ${cause.message}`;
    throw new RadixkvError('invalid_value', message, { param: '--disk-dir', cause });
  } finally {
    clearTimeout(timer);
  }
}

function codecFor(option: DiskCodecOption, layout: KvLayout): CodecName {
  const codec = option === 'auto' ? layout.dtype : option;
  if (suitsLayout(codec, layout)) return codec;
  const message = `--disk-codec ${codec} gains nothing: this model's KV is ${layout.dtype}`;
  throw new RadixkvError('invalid_value', message, { param: '--disk-codec' });
}

function snakeCased(counts: Readonly<Record<string, number>>): Record<string, number> {
  const named = Object.entries(counts).map(([name, count]) => {
    return [name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), count] as const;
  });
  return Object.fromEntries(named);
}
