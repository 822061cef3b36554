/**
 * The cache: finds the KV of a prompt on the device, in host memory and on disk, brings it into a run, and keeps what
 * was computed. The only place where tree, tiers and device memory meet.
 *
 * A prompt is loaded in two steps, so that nobody computes while a disk reads: `prefetch` brings chunks into host
 * memory while the prompt waits, `open` copies what lies there into a run (see device-runs.ts). Only rows that prefill
 * made are sealed into chunks; rows that decode made are `unsettled` until they are computed again, when the engine
 * has nothing else to do, and only then are generated tokens reused.
 *
 * Invariant: at least one prompt token is always left to compute (K2). Calls that compute are made by one caller, one
 * after another (the scheduler). Knows no requests and no text.
 */
import type { KvLayout } from '#storage';
import type { Engine } from '../engine/engine.js';
import { RadixkvError } from '../errors.js';
import type { BreakEven } from './break-even.js';
import { DeviceRuns, type Run } from './device-runs.js';
import {
  type FoundChunk,
  type PrefixCache,
  type PrefixLease,
  type ReadableChunk,
  rowsOf,
} from './prefix-cache.js';

/** A run ready to prefill from row `run.length`, and where the rows before it came from. */
export interface OpenedRun {
  readonly run: Run;
  readonly cached: { readonly device: number; readonly host: number; readonly disk: number };
}

/** Chunks of a waiting prompt on their way to host memory. End it with `endPrefetch`, whatever became of it. */
export interface Prefetch {
  readonly lease: PrefixLease;
  /** Chunks that host memory did not have. */
  readonly fromDisk: ReadonlySet<FoundChunk['id']>;
  /** Resolves when they are there, or as many as can be; never rejects. */
  readonly done: Promise<void>;
  readonly bytes: number;
}

/** Prefetches may hold this share of host memory: the rest is for what is being computed. */
const PREFETCH_SHARE = 1 / 2;

export class KvCache {
  readonly #engine: Engine;
  readonly #layout: KvLayout;
  readonly #prefixes: PrefixCache | undefined;
  readonly #breakEven: BreakEven;
  readonly #runs: DeviceRuns;
  #prefetchingBytes = 0;
  #skippedTokens = 0;

  constructor(options: {
    readonly engine: Engine;
    readonly layout: KvLayout;
    readonly deviceBytes: number;
    /** Absent: nothing outlives its run. */
    readonly prefixes?: PrefixCache;
    /** Of the disk. */
    readonly breakEven: BreakEven;
  }) {
    this.#engine = options.engine;
    this.#layout = options.layout;
    this.#runs = new DeviceRuns({
      engine: options.engine,
      layout: options.layout,
      capacityBytes: options.deviceBytes,
    });
    this.#prefixes = options.prefixes;
    this.#breakEven = options.breakEven;
  }

  /** Longest sequence the device budget can hold at all. */
  get tokensMax(): number {
    return this.#runs.tokensMax;
  }

  /** Tokens of a prompt that `open` would find right now. */
  peek(namespace: string, tokens: Int32Array): number {
    const wanted = tokens.subarray(0, tokens.length - 1);
    const { rows } = this.#runs.longest(namespace, wanted);
    const lease = this.#prefixes?.acquire(namespace, wanted, 'row');
    if (lease === undefined) return rows;
    const reach = this.#reach(lease, rows);
    this.#prefixes!.release(lease);
    return reach.rows;
  }

  /**
   * Begins to bring into host memory what only the disk has of a prompt.
   *
   * @returns undefined when there is nothing to bring, or computing it is faster; `full` when other prefetches take
   * the memory: try again when one has ended.
   */
  prefetch(namespace: string, tokens: Int32Array): Prefetch | 'full' | undefined {
    const prefixes = this.#prefixes;
    if (prefixes === undefined) return undefined;
    const wanted = tokens.subarray(0, tokens.length - 1);
    const lease = prefixes.acquire(namespace, wanted, 'row');
    const prefetch = this.#plan(lease, this.#runs.longest(namespace, wanted).rows);
    if (prefetch === undefined || prefetch === 'full') {
      prefixes.release(lease);
      return prefetch;
    }
    const { chunks, bytes } = prefetch;
    this.#prefetchingBytes += bytes;
    const done = this.#promote(prefixes, chunks);
    return { lease, bytes, fromDisk: new Set(chunks.map((chunk) => chunk.id)), done };
  }

  async #promote(prefixes: PrefixCache, chunks: readonly FoundChunk[]): Promise<void> {
    const startedAt = performance.now();
    const arePromoted = await Promise.all(chunks.map((chunk) => prefixes.promote(chunk)));
    const loaded = arePromoted.filter(Boolean).length * this.#layout.chunkBytes;
    if (loaded > 0) this.#breakEven.loaded(loaded, performance.now() - startedAt);
  }

  /** Which chunks of a prefix to bring from disk, when its first `rows` rows are on the device. */
  #plan(lease: PrefixLease, rows: number) {
    const reach = this.#reach(lease, rows).rows;
    if (reach >= lease.tokens) return undefined;
    const room = Math.floor(this.#prefixes!.capacityBytes * PREFETCH_SHARE) - this.#prefetchingBytes;
    const missing = lease.found.slice(Math.floor(reach / this.#layout.chunkTokens));
    const chunks = missing.slice(0, Math.max(0, Math.floor(room / this.#layout.chunkBytes)));
    if (chunks.length < missing.length && this.#prefetchingBytes > 0) return 'full';
    const bytes = chunks.length * this.#layout.chunkBytes;
    if (chunks.length > 0 && this.#breakEven.decide(bytes, rowsOf(chunks))) return { chunks, bytes };
    this.#skippedTokens += lease.tokens - reach;
    return undefined;
  }

  /** The engine prefilled `tokens` tokens in `ms`: what a load from disk is compared with. */
  prefilled(tokens: number, ms: number): void {
    this.#breakEven.prefilled(tokens, ms);
  }

  /** Lets go of what a prefetch brought; it stays in host memory as long as the policy wants. */
  endPrefetch(prefetch: Prefetch): void {
    this.#prefetchingBytes -= prefetch.bytes;
    this.#prefixes!.release(prefetch.lease);
  }

  /**
   * A run that holds as much of `tokens` as is on the device or in host memory, with room for `capacityTokens` rows.
   *
   * @param prefetch what was brought for it from disk, to tell where the rows came from.
   * @returns undefined when the memory is taken by active runs: try again when one has ended.
   * @throws RadixkvError `engine_failed`.
   */
  async open(
    namespace: string,
    tokens: Int32Array,
    capacityTokens: number,
    prefetch?: Prefetch,
  ): Promise<OpenedRun | undefined> {
    const wanted = tokens.subarray(0, tokens.length - 1);
    const lease = this.#prefixes?.acquire(namespace, wanted, 'row');
    try {
      const device = this.#runs.longest(namespace, wanted);
      const run = await this.#runs.take(namespace, device, capacityTokens);
      if (run === undefined) return undefined;
      run.tokens.set(tokens);
      const onDevice = run.length;
      if (lease === undefined) return { run, cached: { device: onDevice, host: 0, disk: 0 } };
      await this.#load(run, lease).catch((error: unknown) => {
        this.discard(run);
        throw error;
      });
      const used = lease.found.slice(0, Math.ceil(run.length / this.#layout.chunkTokens));
      this.#prefixes!.use(used);
      const disk = this.#rowsAmong(used, prefetch?.fromDisk, { start: onDevice, end: run.length });
      return { run, cached: { device: onDevice, host: run.length - onDevice - disk, disk } };
    } finally {
      if (lease !== undefined) this.#prefixes!.release(lease);
    }
  }

  /** A second active run with the same rows, for another answer to the same prompt; undefined as `open`. */
  async fork(run: Run, capacityTokens: number): Promise<Run | undefined> {
    const copy = await this.#runs.take(run.namespace, { run, rows: run.length }, capacityTokens);
    copy?.tokens.set(run.tokens.subarray(0, run.length));
    return copy;
  }

  /** Makes room for one more row; false when no memory can be had. */
  grow(run: Run): Promise<boolean> {
    return this.#runs.grow(run);
  }

  /** Ends a request's use of a run, which stays warm. */
  release(run: Run): void {
    this.#runs.release(run);
  }

  /** Ends a run and frees its memory. */
  discard(run: Run): void {
    this.#runs.discard(run);
  }

  /** A warm run with rows that decode made, for the scheduler to have them computed again. */
  unsettled(): Run | undefined {
    return this.#runs.unsettled();
  }

  /** Frees every run that no request uses; what the tiers below hold stays. */
  dropWarm(): void {
    this.#runs.dropWarm();
  }

  /** The engine lost its memory: every run is gone, what the tiers below hold is not. */
  forgetDevice(): void {
    this.#runs.forget();
  }

  /** Rows `[run.exact, end)` were made by prefill: they may be shared, and whole chunks go to the host tier. */
  async commit(run: Run, end: number): Promise<void> {
    run.exact = end;
    run.length = Math.max(run.length, end);
    const chunks = Math.floor(end / this.#layout.chunkTokens);
    if (this.#prefixes === undefined || chunks === 0) return;
    const tokens = run.tokens.subarray(0, chunks * this.#layout.chunkTokens);
    let sealed: number;
    do sealed = await this.#seal(run, tokens, this.#prefixes);
    while (sealed > 0 && sealed < chunks);
  }

  /** Seals what the tiers lack of `tokens`, up to the next present chunk: the end of what it sealed, in chunks. */
  async #seal(run: Run, tokens: Int32Array, prefixes: PrefixCache): Promise<number> {
    const { namespace } = run;
    const lease = prefixes.acquire(namespace, tokens, 'whole chunks');
    try {
      const reserved = prefixes.reserve(namespace, tokens, lease);
      if (reserved.length === 0) return 0;
      const slots = reserved.map(({ slot, index }) => ({ slot, start: index * this.#layout.chunkTokens }));
      try {
        const { result } = await this.#engine.call<'seal'>({ op: 'seal', run: run.id, chunks: slots });
        prefixes.commit(namespace, tokens, { lease, chunks: reserved, checksums: result.checksums });
        return reserved.at(-1)!.index + 1;
      } catch (error) {
        prefixes.abort(reserved);
        throw error;
      }
    } finally {
      prefixes.release(lease);
    }
  }

  /** Resolves when what the disk holds can be found; rejects when that can never be. */
  get opened(): Promise<void> {
    return this.#prefixes?.opened ?? Promise.resolve();
  }

  reading() {
    const { tier: device, active, evicted } = this.#runs.reading();
    const prefixes = this.#prefixes?.reading();
    return {
      device,
      prefixes,
      skippedTokens: this.#skippedTokens,
      speeds: this.#breakEven.reading(),
      activeRuns: active,
      evictions: [{ tier: 'device', reason: 'capacity', count: evicted }, ...(prefixes?.evictions ?? [])],
    };
  }

  /** Bytes of runs; and, for tests and idle times, an audit of the tree. */
  audit(): { readonly activeRuns: number; readonly leases: number } {
    this.#runs.audit();
    const { active: activeRuns } = this.#runs.reading();
    return { activeRuns, leases: this.#prefixes?.audit().leases ?? 0 };
  }

  /** Host chunks → rows of the run, up to the first corrupt one. */
  async #load(run: Run, lease: PrefixLease): Promise<void> {
    const { first, readable, rows: reach } = this.#reach(lease, run.length);
    if (reach <= run.length) return;
    const { chunkTokens } = this.#layout;
    const chunks = readable.map(({ slot, checksum, rows }, i) => {
      return { slot, checksum, rows, start: (first + i) * chunkTokens };
    });
    const { result } = await this.#engine.call<'load'>({ op: 'load', run: run.id, chunks });
    const corrupt = readable[result.loaded];
    if (corrupt !== undefined) this.#prefixes!.condemn(corrupt);
    const loaded = rowsOf(readable.slice(0, result.loaded));
    run.length = Math.max(run.length, first * chunkTokens + loaded);
    run.exact = run.length;
  }

  /** How far host memory goes on from the first `rows` rows of a prefix: the chunks to read, and the rows then there. */
  #reach(lease: PrefixLease, rows: number) {
    const first = Math.floor(rows / this.#layout.chunkTokens);
    const readable: readonly ReadableChunk[] = this.#prefixes!.readable(lease, first);
    return { first, readable, rows: Math.max(rows, first * this.#layout.chunkTokens + rowsOf(readable)) };
  }

  /** Rows of `[start, end)` that lie in some of the chunks of a prefix. */
  #rowsAmong(
    prefix: readonly FoundChunk[],
    some: Prefetch['fromDisk'] | undefined,
    range: { readonly start: number; readonly end: number },
  ): number {
    let rows = 0;
    for (const [i, chunk] of prefix.entries()) {
      const start = i * this.#layout.chunkTokens;
      const within = Math.min(range.end, start + chunk.rows) - Math.max(range.start, start);
      if (some?.has(chunk.id)) rows += Math.max(0, within);
    }
    return rows;
  }
}

/** @throws RadixkvError for a sequence that no amount of waiting makes room for. */
export function requireFit(cache: KvCache, tokens: number, param: string): void {
  if (tokens <= cache.tokensMax) return;
  throw new RadixkvError(
    'context_length_exceeded',
    `a sequence of ${tokens} tokens needs more device memory than there is (room for ${cache.tokensMax} tokens); raise --device-bytes`,
    { param },
  );
}
