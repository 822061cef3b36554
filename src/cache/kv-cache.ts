/**
 * The cache: finds the KV of a prompt on the device, in host memory and on disk, brings it into a run, and keeps what
 * was computed. The only place where tree, tiers and device memory meet.
 *
 * A prompt is loaded in two steps, so that nobody computes while a disk reads: `prefetch` brings chunks into host
 * memory while the prompt waits, `open` copies what lies there into a run.
 *
 * A *run* is the device memory of one sequence. While a request uses it, it is *active*; afterwards it stays *warm*
 * until its memory is needed. Rows `[0, exact)` of a run were made by prefill and equal those of any other prefill
 * bit for bit: only these are shared (copied to another run, sealed into host chunks). Rows made by decode are
 * `[exact, length)`; `settle` has them computed again when the engine has nothing else to do, and only then are
 * generated tokens reused.
 *
 * Invariants: Σ capacity of runs ≤ the device budget; a warm run's memory is taken only when nobody copies from it;
 * a hit is believed only after its tokens compare equal; at least one prompt token is always left to compute (K2).
 * Calls that compute are made by one caller, one after another (the scheduler). Knows no requests and no text.
 */
import assert from 'node:assert/strict';
import type { KvLayout } from '#storage';
import type { Engine } from '../engine/engine.js';
import type { RunId } from '../engine/protocol.js';
import { RadixkvError } from '../errors.js';
import type { BreakEven } from './break-even.js';
import {
  type FoundChunk,
  type PrefixCache,
  type PrefixLease,
  type ReadableChunk,
  rowsOf,
} from './prefix-cache.js';

/** Capacities are multiples of this, so that a few more tokens need no new memory. */
const CAPACITY_STEP_TOKENS = 256;

export interface Run {
  readonly id: RunId;
  readonly namespace: string;
  capacityTokens: number;
  /** Tokens of the rows; `[0, length)` are meaningful. */
  tokens: Int32Array;
  length: number;
  exact: number;
  isActive: boolean;
  /** Logical time of the last use, for eviction. */
  usedAt: number;
}

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
  readonly #capacityBytes: number;
  readonly #runs = new Map<RunId, Run>();
  #nextRun = 0;
  #now = 0;
  #evictedRuns = 0;
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
    this.#capacityBytes = options.deviceBytes;
    this.#prefixes = options.prefixes;
    this.#breakEven = options.breakEven;
  }

  /** Longest sequence the device budget can hold at all. */
  get tokensMax(): number {
    const steps = Math.floor(this.#capacityBytes / (this.#layout.tokenBytes * CAPACITY_STEP_TOKENS));
    return steps * CAPACITY_STEP_TOKENS;
  }

  /** Tokens of a prompt that `open` would find right now. */
  peek(namespace: string, tokens: Int32Array): number {
    const wanted = tokens.subarray(0, tokens.length - 1);
    const { rows } = this.#longestRun(namespace, wanted);
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
    const prefetch = this.#plan(lease, this.#longestRun(namespace, wanted).rows);
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
      const device = this.#longestRun(namespace, wanted);
      const run = await this.#take(namespace, device, capacityTokens);
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
    const copy = await this.#take(run.namespace, { run, rows: run.length }, capacityTokens);
    if (copy === undefined) return undefined;
    copy.tokens.set(run.tokens.subarray(0, run.length));
    return copy;
  }

  /**
   * Makes room for one more row.
   *
   * @returns false when no memory can be had.
   */
  async grow(run: Run): Promise<boolean> {
    if (run.length < run.capacityTokens) return true;
    const larger = this.#allocate(run.namespace, run.capacityTokens + CAPACITY_STEP_TOKENS, run);
    if (larger === undefined) return false;
    await this.#copy(run, larger, run.length);
    // The caller keeps its `Run`: the two swap their memory.
    larger.tokens.set(run.tokens.subarray(0, run.length));
    const { id, capacityTokens, tokens } = run;
    Object.assign(run, { id: larger.id, capacityTokens: larger.capacityTokens, tokens: larger.tokens });
    Object.assign(larger, { id, capacityTokens, tokens });
    this.#runs.set(run.id, run);
    this.#runs.set(larger.id, larger);
    this.#free(larger);
    return true;
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

  /** Ends a request's use of a run, which stays warm. */
  release(run: Run): void {
    if (!this.#runs.has(run.id)) return;
    run.isActive = false;
    run.usedAt = ++this.#now;
  }

  /** Ends a run and frees its memory. */
  discard(run: Run): void {
    if (this.#runs.has(run.id)) this.#free(run);
  }

  /** The most recently used warm run with rows that decode made, for the scheduler to have them computed again. */
  unsettled(): Run | undefined {
    let latest: Run | undefined;
    for (const run of this.#runs.values()) {
      const waits = !run.isActive && run.exact < run.length;
      if (waits && (latest === undefined || run.usedAt > latest.usedAt)) latest = run;
    }
    return latest;
  }

  /** Frees every run that no request uses; what the host tier holds stays. */
  dropWarm(): void {
    for (const run of this.#runs.values()) if (!run.isActive) this.#free(run);
  }

  /** The engine lost its memory: every run is gone, what the host tier holds is not. */
  forgetDevice(): void {
    this.#runs.clear();
  }

  /** Resolves when what the disk holds can be found; rejects when that can never be. */
  get opened(): Promise<void> {
    return this.#prefixes?.opened ?? Promise.resolve();
  }

  reading() {
    const runs = [...this.#runs.values()];
    const prefixes = this.#prefixes?.reading();
    const tokens = runs.reduce((sum, run) => sum + run.exact, 0);
    const device = {
      bytes: this.#usedBytes(),
      capacityBytes: this.#capacityBytes,
      chunks: Math.floor(tokens / this.#layout.chunkTokens),
    };
    const evictions = [
      { tier: 'device', reason: 'capacity', count: this.#evictedRuns },
      ...(prefixes?.evictions ?? []),
    ];
    return {
      device,
      prefixes,
      skippedTokens: this.#skippedTokens,
      speeds: this.#breakEven.reading(),
      activeRuns: runs.filter((run) => run.isActive).length,
      evictions,
    };
  }

  /** Bytes of runs; and, for tests and idle times, an audit of the tree. */
  audit(): { readonly activeRuns: number; readonly leases: number } {
    assert(this.#usedBytes() <= this.#capacityBytes, 'the device budget holds');
    const activeRuns = [...this.#runs.values()].filter((run) => run.isActive).length;
    return { activeRuns, leases: this.#prefixes?.audit().leases ?? 0 };
  }

  /** The run that shares the longest prefix, and how many of its rows. */
  #longestRun(
    namespace: string,
    tokens: Int32Array,
  ): { readonly run: Run | undefined; readonly rows: number } {
    let longest: { run: Run | undefined; rows: number } = { run: undefined, rows: 0 };
    for (const run of this.#runs.values()) {
      if (run.namespace !== namespace) continue;
      const rows = commonPrefix(run.tokens.subarray(0, run.exact), tokens);
      if (rows > longest.rows) longest = { run, rows };
    }
    return longest;
  }

  /** An active run with the first `rows` rows of `from`: that very run where it can be taken over, else a copy. */
  async #take(
    namespace: string,
    from: { readonly run: Run | undefined; readonly rows: number },
    capacityTokens: number,
  ): Promise<Run | undefined> {
    const { run, rows } = from;
    const losesLittle = run !== undefined && run.exact - rows < this.#layout.chunkTokens;
    if (run !== undefined && !run.isActive && losesLittle && run.capacityTokens >= capacityTokens) {
      return Object.assign(run, { isActive: true, length: rows, exact: rows });
    }
    const fresh = this.#allocate(namespace, capacityTokens, run);
    if (fresh === undefined || run === undefined || !this.#runs.has(run.id)) return fresh;
    await this.#copy(run, fresh, rows);
    fresh.length = rows;
    fresh.exact = Math.min(rows, run.exact);
    if (!run.isActive && losesLittle) this.#free(run);
    else run.usedAt = ++this.#now;
    return fresh;
  }

  /** Rows `[0, tokens)` of a run → new memory, which is given back when that fails. */
  async #copy(from: Run, to: Run, tokens: number): Promise<void> {
    try {
      await this.#engine.call<'copyRun'>({ op: 'copyRun', from: from.id, to: to.id, tokens });
    } catch (error) {
      this.discard(to);
      throw error;
    }
  }

  /** New memory, evicting warm runs, least recently used first; `source` goes last. */
  #allocate(namespace: string, capacityTokens: number, source: Run | undefined): Run | undefined {
    const capacity = Math.ceil(capacityTokens / CAPACITY_STEP_TOKENS) * CAPACITY_STEP_TOKENS;
    const bytes = capacity * this.#layout.tokenBytes;
    const active = [...this.#runs.values()].filter((run) => run.isActive);
    const taken = active.reduce((sum, run) => sum + this.#bytesOf(run), 0);
    if (taken + bytes > this.#capacityBytes) return undefined;
    while (this.#usedBytes() + bytes > this.#capacityBytes) {
      this.#free(this.#victim(source));
      this.#evictedRuns++;
    }
    const run: Run = {
      id: this.#nextRun++,
      namespace,
      capacityTokens: capacity,
      tokens: new Int32Array(capacity),
      length: 0,
      exact: 0,
      isActive: true,
      usedAt: ++this.#now,
    };
    this.#runs.set(run.id, run);
    this.#send({ op: 'createRun', run: run.id, capacityTokens: capacity });
    return run;
  }

  #victim(source: Run | undefined): Run {
    const warm = [...this.#runs.values()].filter((run) => !run.isActive);
    const others = warm.filter((run) => run !== source);
    const candidates = others.length > 0 ? others : warm;
    assert(candidates.length > 0, 'the budget holds what is not active');
    return candidates.reduce((oldest, run) => (run.usedAt < oldest.usedAt ? run : oldest));
  }

  #free(run: Run): void {
    this.#runs.delete(run.id);
    this.#send({ op: 'freeRun', run: run.id });
  }

  /** Requests that only fail with the engine, whose death the next awaited request reports. */
  #send(request: Parameters<Engine['call']>[0]): void {
    this.#engine.call(request).catch(() => {});
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

  #bytesOf(run: Run): number {
    return run.capacityTokens * this.#layout.tokenBytes;
  }

  #usedBytes(): number {
    return [...this.#runs.values()].reduce((sum, run) => sum + this.#bytesOf(run), 0);
  }
}

/** Length of the longest common prefix. */
export function commonPrefix(a: Int32Array, b: Int32Array): number {
  const end = Math.min(a.length, b.length);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
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
