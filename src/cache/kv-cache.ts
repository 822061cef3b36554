/**
 * The cache: finds the KV of a prompt on the device, in host memory and on disk, brings it into a run, and keeps what
 * was computed. The only place where tree, tiers and device memory meet.
 *
 * A prompt is loaded in two steps, so that nobody computes while a disk or the remote tier reads: `prefetch` brings
 * chunks into host memory while the prompt waits, `open` copies what lies there into a run (see device-runs.ts). Only
 * rows that prefill made are sealed into chunks; rows that decode made are `unsettled` until they are computed again, when the engine
 * has nothing else to do, and only then are generated tokens reused.
 *
 * A *segment* (a passage behind a context of its own) is a sequence in another namespace, padded to whole chunks, so
 * that the same tree and tiers hold it. It is read into a scratch run, from which its rows go to their place in a
 * prompt's run (serving/blending.ts). What is blended is kept on the device only, and found by who accepts `blended`.
 *
 * Invariant: at least one prompt token is always left to compute (K2). Calls that compute are made by one caller, one
 * after another (the scheduler). Knows no requests and no text.
 */
import type { Parting, Place } from '#radix';
import type { KvLayout, PinOutcome } from '#storage';
import type { Engine } from '../engine/engine.js';
import { RadixkvError } from '../errors.js';
import type { BreakEven } from './break-even.js';
import { type Accepts, commonPrefix, DeviceRuns, NO_ROWS, type Run } from './device-runs.js';
import {
  type ClearedChunks,
  type FoundChunk,
  type NodeRows,
  type OutlinedNode,
  type PrefixCache,
  type PrefixLease,
  type ReadableChunk,
  rowsOf,
} from './prefix-cache.js';
import type { RemotePulls } from './remote-pulls.js';
import { bringBack, recover, type SetAside, setAside } from './set-aside.js';
import { SHARED_NAMESPACE } from './shared-namespace.js';

interface RowsByTier {
  readonly device: number;
  readonly host: number;
  readonly disk: number;
  readonly remote: number;
}

/** A run ready to prefill from row `run.length`, and where the rows before it came from. */
export interface OpenedRun {
  readonly run: Run;
  /** Exact rows. */
  readonly cached: RowsByTier;
  /** The others: from a lossy copy, or of a blended prompt that this one continues. */
  readonly blended: RowsByTier;
  /** Those of them that the tree knows, by its nodes. */
  readonly nodes: readonly NodeRows[];
}

export interface OpenOptions {
  /** Rows it may have to grow to; default: its capacity. */
  readonly rowsMax?: number;
  /** What was brought for it from below, to tell where the rows came from. */
  readonly prefetch?: Prefetch | undefined;
  /** Beside exact rows; by default nothing. */
  readonly accepts?: Accepts;
  /** Reads nothing of what is cached, and leaves nothing there. */
  readonly isPrivate?: boolean;
}

/** A sequence whose KV is wanted: all of it. */
export interface WantedTokens {
  readonly namespace: string;
  readonly tokens: Int32Array;
}

/** How long a pin without an end holds after each use. */
const PIN_MS = 10 * 365 * 24 * 3600 * 1000;

export interface KeepOptions {
  /** Undefined: as long as there is room. */
  readonly ttlMs: number | undefined;
  readonly isPinned: boolean;
  /** Whole chunks at the beginning that others have too: these are kept as they are. */
  readonly sharedTokens: number;
}

export interface PinOptions {
  /** Renewed by each use. Undefined: until it is unpinned. */
  readonly ttlMs?: number | undefined;
  /** 0 to 100, see `Retention`. */
  readonly priority?: number | undefined;
}

export interface ClearOptions {
  /** The only tier to forget it in. */
  readonly tier?: keyof RowsByTier | undefined;
  /** Tokens with which it begins. */
  readonly prefix?: Int32Array | undefined;
}

/** What became of what was to go: chunks below the device, and runs on it. */
export interface Cleared extends ClearedChunks {
  readonly runs: number;
  /** Of these, those that a request uses. */
  readonly runsInUse: number;
}

const NO_RUNS = { runs: 0, inUse: 0 };
const NO_CHUNKS: ClearedChunks = { chunks: 0, inUse: 0, pinned: 0, shared: 0 };

const NOTHING: RowsByTier = { device: 0, host: 0, disk: 0, remote: 0 };

/** Fills the last chunk of a segment: no model has this token. */
const PADDING_TOKEN = -1;

/** The tokens in whole chunks. */
export function padded(tokens: Int32Array, chunkTokens: number): Int32Array {
  const whole = new Int32Array(Math.ceil(tokens.length / chunkTokens) * chunkTokens).fill(PADDING_TOKEN);
  whole.set(tokens);
  return whole;
}

/** Chunks of a waiting prompt on their way to host memory. End it with `endPrefetch`, whatever became of it. */
export interface Prefetch {
  readonly leases: readonly PrefixLease[];
  /** Chunks that host memory did not have, but the disk. */
  readonly fromDisk: ReadonlySet<FoundChunk['id']>;
  /** Chunks that no tier here had: known when it is done. */
  readonly fromRemote: ReadonlySet<FoundChunk['id']>;
  /** Resolves when they are there, or as many as can be; never rejects. */
  readonly done: Promise<void>;
  /** That it may take of host memory; what the remote tier turns out not to have is let go of. */
  readonly bytes: number;
  /** Tokens that are prefilled in the time that this takes: 0 as long as nobody knows. */
  readonly hiddenTokens: number;
}

/** A prefetch as it goes on. */
interface RunningPrefetch extends Prefetch {
  readonly leases: PrefixLease[];
  readonly fromRemote: Set<FoundChunk['id']>;
  bytes: number;
  hasEnded: boolean;
}

/** What to bring from disk, and whether that is all that it has of the prompt. */
interface LoadPlan {
  readonly chunks: readonly FoundChunk[];
  readonly isAll: boolean;
}

/** Prefetches may hold this share of host memory: the rest is for what is being computed. */
const PREFETCH_SHARE = 1 / 2;

export class KvCache {
  readonly #engine: Engine;
  readonly #layout: KvLayout;
  readonly #prefixes: PrefixCache | undefined;
  readonly #breakEven: BreakEven;
  readonly #remote: RemotePulls | undefined;
  readonly #runs: DeviceRuns;
  #prefetchingBytes = 0;
  #skippedTokens = 0;
  #sharedReaders: ReadonlySet<string> = new Set();

  constructor(options: {
    readonly engine: Engine;
    readonly layout: KvLayout;
    readonly deviceBytes: number;
    /** Absent: nothing outlives its run. */
    readonly prefixes?: PrefixCache;
    /** Of the disk. */
    readonly breakEven: BreakEven;
    /** Absent: what no tier here has is computed. */
    readonly remote?: RemotePulls | undefined;
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
    this.#remote = options.remote;
  }

  /** Longest sequence the device budget can hold at all. */
  get tokensMax(): number {
    return this.#runs.tokensMax;
  }

  /** Whether runs of so many tokens can be held at the same time, when nothing else is. */
  fits(runs: readonly number[]): boolean {
    return this.#runs.fits(runs);
  }

  /** Tokens of a prompt that `open` would find right now. */
  peek(namespace: string, tokens: Int32Array, accepts: Accepts = 'exact'): number {
    const wanted = tokens.subarray(0, tokens.length - 1);
    const { rows } = this.#runs.longest(namespace, wanted, accepts);
    const lease = this.#acquire(namespace, wanted, accepts);
    if (lease === undefined) return rows;
    const reach = this.#reach(lease, rows);
    this.#prefixes!.release(lease);
    return reach.rows;
  }

  /** Where the rows of a prompt lie that `open` would find right now. Not a use. */
  locate(namespace: string, tokens: Int32Array, accepts: Accepts): RowsByTier {
    const wanted = tokens.subarray(0, tokens.length - 1);
    const device = this.#runs.longest(namespace, wanted, accepts).rows;
    const lease = this.#acquire(namespace, wanted, accepts);
    if (lease === undefined) return { ...NOTHING, device };
    return { device, ...this.#tiersOf(lease, device) };
  }

  /** As `locate`, and how many rows more a request would find in the remote tier, which is asked. */
  async locateEverywhere(namespace: string, tokens: Int32Array, accepts: Accepts): Promise<RowsByTier> {
    const here = this.locate(namespace, tokens, accepts);
    const wanted = tokens.subarray(0, tokens.length - 1);
    if (this.#remote === undefined || !this.#remote.isUsable) return here;
    const rows = here.device + here.host + here.disk;
    const end = await this.#remote.reach(namespace, wanted, { isExactOnly: accepts === 'exact' });
    return { ...here, remote: Math.max(0, end - rows) };
  }

  /** Where the rows of a lease from row `start` on lie. Ends the lease. */
  #tiersOf(lease: PrefixLease, start: number): Omit<RowsByTier, 'device'> {
    const prefixes = this.#prefixes!;
    const inHost = new Set(lease.found.filter((chunk) => prefixes.isInHost(chunk)).map(({ id }) => id));
    const end = Math.max(start, lease.tokens);
    const host = this.#rowsAmong(lease.found, inHost, { start, end });
    prefixes.release(lease);
    return { host, disk: end - start - host, remote: 0 };
  }

  /**
   * How many of `tokens` agree with the nearest sequence that is cached, on the device or below, and up to `count`
   * tokens that it goes on with. Not a use.
   */
  parting(namespace: string, tokens: Int32Array, count: number): Parting {
    const readable = this.#sharedReaders.has(namespace) ? [namespace, SHARED_NAMESPACE] : [namespace];
    const below = readable
      .flatMap((each) => this.#prefixes?.parting(each, tokens, count) ?? [])
      .reduce((nearest, each) => (each.depth > nearest.depth ? each : nearest), {
        depth: 0,
        next: new Int32Array(),
      });
    // Of interest are runs that agree further, or as far where less is known to follow than is wanted.
    const beyond = below.next.length < count ? below.depth - 1 : below.depth;
    const onDevice = this.#runs.parting(namespace, tokens, { count, beyond });
    const isNearer = onDevice.depth > below.depth;
    const knowsMore = onDevice.depth === below.depth && onDevice.next.length > below.next.length;
    return isNearer || knowsMore ? onDevice : below;
  }

  /** The nodes of the tree below a place. */
  outline(namespace: string, place: Place): OutlinedNode[] {
    return this.#prefixes?.outline(namespace, place) ?? [];
  }

  /**
   * Forgets what is cached of a namespace, or of a prefix and what goes on from it, in every tier or in one. What is in
   * use is used to its end, and kept by nobody afterwards; what is pinned stays.
   */
  clear(namespace: string, { tier, prefix }: ClearOptions = {}): Cleared {
    const isOnDevice = tier === undefined || tier === 'device';
    const device = isOnDevice ? this.#runs.forgetNamespace(namespace, prefix) : NO_RUNS;
    const below =
      tier === 'device' ? NO_CHUNKS : (this.#prefixes?.clear(namespace, { tier, prefix }) ?? NO_CHUNKS);
    return { ...below, runs: device.runs, runsInUse: device.inUse };
  }

  /** Every namespace of which something is cached. */
  namespaces(): string[] {
    return [...new Set([...this.#runs.namespaces(), ...(this.#prefixes?.namespaces() ?? [])])];
  }

  /**
   * Pins the whole chunks of a prefix in the tiers that have them, and keeps them as dearly as `priority` says.
   *
   * @returns `missing` when not all of them are there
   */
  pin(namespace: string, tokens: Int32Array, { ttlMs = PIN_MS, priority }: PinOptions): PinOutcome {
    const stretch = { namespace, tokens };
    const outcome = this.#prefixes?.pin(stretch, { ttlMs }) ?? 'missing';
    if (outcome === 'pinned' && priority !== undefined) this.#prefixes!.retain(stretch, { priority });
    return outcome;
  }

  /** Whether all of a prefix is pinned now. */
  isPinned(namespace: string, tokens: Int32Array): boolean {
    return this.#prefixes?.isPinned({ namespace, tokens }) ?? false;
  }

  unpin(namespace: string, tokens: Int32Array): void {
    this.#prefixes?.unpin({ namespace, tokens });
    this.#prefixes?.retain({ namespace, tokens }, {});
  }

  /** Where the rows of `tokens` lie now, below the device. */
  peekTiers(namespace: string, tokens: Int32Array): RowsByTier {
    const lease = this.#prefixes?.acquire(namespace, tokens, 'row');
    return lease === undefined ? NOTHING : { device: 0, ...this.#tiersOf(lease, 0) };
  }

  /** The longest prefix that a request may read below the device: its own, or that of a public text. */
  #acquire(namespace: string, tokens: Int32Array, accepts: Accepts): PrefixLease | undefined {
    const prefixes = this.#prefixes;
    const isExactOnly = accepts === 'exact';
    const own = prefixes?.acquire(namespace, tokens, 'row', { isExactOnly });
    if (own === undefined || !this.#sharedReaders.has(namespace)) return own;
    const shared = prefixes!.acquire(SHARED_NAMESPACE, tokens, 'whole chunks', { isExactOnly });
    const [longer, shorter] = shared.tokens > own.tokens ? [shared, own] : [own, shared];
    prefixes!.release(shorter);
    return longer;
  }

  /** Says which namespaces read public texts. */
  setSharedReaders(namespaces: ReadonlySet<string>): void {
    this.#sharedReaders = namespaces;
  }

  /**
   * Begins to bring into host memory what only the disk has of a prompt, and of the segments it may be blended from,
   * and what the remote tier has beyond that.
   *
   * @returns undefined when there is nothing to bring, or computing it is faster; `full` when other prefetches take
   * the memory: try again when one has ended.
   */
  prefetch(
    namespace: string,
    tokens: Int32Array,
    options: { readonly accepts?: Accepts; readonly segments?: readonly WantedTokens[] } = {},
  ): Prefetch | 'full' | undefined {
    const { accepts = 'exact', segments = [] } = options;
    const prefixes = this.#prefixes;
    if (prefixes === undefined) return undefined;
    const wanted = [{ namespace, tokens: tokens.subarray(0, tokens.length - 1) }, ...segments];
    const leases = wanted.map((part) => this.#acquire(part.namespace, part.tokens, accepts)!);
    const rows = wanted.map((part) => this.#runs.longest(part.namespace, part.tokens, accepts).rows);
    const plan = this.#plan(leases, rows);
    const pulls = plan === 'full' ? [] : this.#planPulls(wanted, { leases, rows, plan });
    if (plan === 'full' || (plan.chunks.length === 0 && pulls.length === 0)) {
      for (const lease of leases) prefixes.release(lease);
      return plan === 'full' ? plan : undefined;
    }
    const { chunks } = plan;
    const { chunkBytes } = this.#layout;
    const bytes = chunks.length * chunkBytes;
    const prefetch: RunningPrefetch = {
      leases,
      bytes: bytes + pulls.reduce((sum, { chunksMax }) => sum + chunksMax * chunkBytes, 0),
      hiddenTokens: this.#breakEven.hiddenTokens(bytes, rowsOf(chunks)),
      fromDisk: new Set(chunks.map((chunk) => chunk.id)),
      fromRemote: new Set(),
      done: Promise.resolve(),
      hasEnded: false,
    };
    this.#prefetchingBytes += prefetch.bytes;
    const parts: Promise<void>[] = [
      this.#promote(prefixes, chunks),
      ...pulls.map((pull) => this.#pull(prefetch, pull, accepts)),
    ];
    return Object.assign(prefetch, { done: allOf(parts) });
  }

  /** What to ask the remote tier for: the whole chunks after what is here, where that is all brought to host memory. */
  #planPulls(
    wanted: readonly WantedTokens[],
    here: {
      readonly leases: readonly PrefixLease[];
      readonly rows: readonly number[];
      readonly plan: LoadPlan;
    },
  ): (WantedTokens & { readonly chunksMax: number })[] {
    const { leases, rows, plan } = here;
    if (this.#remote === undefined || !this.#remote.isUsable || !plan.isAll) return [];
    const { chunkTokens, chunkBytes } = this.#layout;
    const roomBytes = this.#roomBytes - plan.chunks.length * chunkBytes;
    let room = Math.max(0, Math.floor(roomBytes / chunkBytes));
    return wanted.flatMap((part, i) => {
      const inTiers = leases[i]!.found.filter((chunk) => chunk.rows === chunkTokens).length;
      const onDevice = Math.floor(rows[i]! / chunkTokens);
      const missing = Math.floor(part.tokens.length / chunkTokens) - inTiers;
      // What only the device has is not followed by anything below it.
      const chunksMax = onDevice > inTiers ? 0 : Math.min(missing, room);
      room -= chunksMax;
      return chunksMax > 0 ? [{ ...part, chunksMax }] : [];
    });
  }

  async #pull(
    prefetch: RunningPrefetch,
    { namespace, tokens, chunksMax }: WantedTokens & { readonly chunksMax: number },
    accepts: Accepts,
  ): Promise<void> {
    const pulled = await this.#remote!.pull(namespace, tokens, {
      isExactOnly: accepts === 'exact',
      chunksMax,
      hasEnded: () => prefetch.hasEnded,
    });
    if (prefetch.hasEnded) {
      if (pulled !== undefined) this.#prefixes!.release(pulled.lease);
      return;
    }
    const unusedBytes = (chunksMax - (pulled?.brought.size ?? 0)) * this.#layout.chunkBytes;
    prefetch.bytes -= unusedBytes;
    this.#prefetchingBytes -= unusedBytes;
    if (pulled === undefined) return;
    prefetch.leases.push(pulled.lease);
    for (const { id, key } of pulled.lease.found) if (pulled.brought.has(key)) prefetch.fromRemote.add(id);
  }

  async #promote(prefixes: PrefixCache, chunks: readonly FoundChunk[]): Promise<void> {
    const startedAt = performance.now();
    const arePromoted = await Promise.all(chunks.map((chunk) => prefixes.promote(chunk)));
    const loaded = arePromoted.filter(Boolean).length * this.#layout.chunkBytes;
    if (loaded > 0) this.#breakEven.loaded(loaded, performance.now() - startedAt);
  }

  /** Which chunks to bring from disk, when the first `rows[i]` rows of the i-th lease are on the device. */
  #plan(leases: readonly PrefixLease[], rows: readonly number[]): LoadPlan | 'full' {
    const reaches = leases.map((lease, i) => this.#reach(lease, rows[i]!).rows);
    const missing = leases.flatMap((lease, i) =>
      reaches[i]! < lease.tokens ? lease.found.slice(Math.floor(reaches[i]! / this.#layout.chunkTokens)) : [],
    );
    if (missing.length === 0) return { chunks: [], isAll: true };
    const chunks = missing.slice(0, Math.max(0, Math.floor(this.#roomBytes / this.#layout.chunkBytes)));
    if (chunks.length < missing.length && this.#prefetchingBytes > 0) return 'full';
    const bytes = chunks.length * this.#layout.chunkBytes;
    if (chunks.length > 0 && this.#breakEven.decide(bytes, rowsOf(chunks)))
      return { chunks, isAll: chunks.length === missing.length };
    this.#skippedTokens += leases.reduce((sum, lease, i) => sum + Math.max(0, lease.tokens - reaches[i]!), 0);
    return { chunks: [], isAll: false };
  }

  /** Of host memory, that prefetches may still take. */
  get #roomBytes(): number {
    return Math.floor(this.#prefixes!.capacityBytes * PREFETCH_SHARE) - this.#prefetchingBytes;
  }

  /** The engine prefilled `tokens` tokens in `ms`: what a load from disk is compared with. */
  prefilled(tokens: number, ms: number): void {
    this.#breakEven.prefilled(tokens, ms);
    this.#remote?.prefilled(tokens, ms);
  }

  /** Lets go of what a prefetch brought; it stays in host memory as long as the policy wants. */
  endPrefetch(prefetch: Prefetch): void {
    this.#prefetchingBytes -= prefetch.bytes;
    Object.assign(prefetch, { hasEnded: true });
    for (const lease of prefetch.leases) this.#prefixes!.release(lease);
  }

  /**
   * A run that holds as much of `tokens` as is on the device or in host memory, with room for `capacityTokens` rows.
   *
   * @returns undefined when the memory is taken by active runs: try again when one has ended.
   * @throws RadixkvError `engine_failed`.
   */
  async open(
    namespace: string,
    tokens: Int32Array,
    capacityTokens: number,
    { rowsMax = capacityTokens, prefetch, accepts = 'exact', isPrivate = false }: OpenOptions = {},
  ): Promise<OpenedRun | undefined> {
    if (isPrivate) {
      const run = await this.scratch(namespace, capacityTokens);
      run?.tokens.set(tokens);
      return run && { run, cached: NOTHING, blended: NOTHING, nodes: [] };
    }
    const wanted = tokens.subarray(0, tokens.length - 1);
    const lease = this.#acquire(namespace, wanted, accepts);
    try {
      let from = this.#runs.longest(namespace, wanted, accepts);
      // Blended rows go no further than themselves; where the tiers have as much, theirs can be gone on from.
      if (accepts === 'blended' && lease !== undefined && from.rows <= lease.tokens) {
        from = this.#runs.longest(namespace, wanted, 'lossy');
      }
      // What is blended is gathered from its run and scattered to it, which must have all rows itself.
      const isWhole = accepts === 'blended';
      const run = await this.#runs.take(namespace, from, capacityTokens, { rowsMax, isWhole });
      if (run === undefined) return undefined;
      run.tokens.set(tokens);
      return { run, ...(await this.#fill(run, run.blended > 0 ? undefined : lease, prefetch)) };
    } finally {
      if (lease !== undefined) this.#prefixes!.release(lease);
    }
  }

  /** A run that is shared with nobody, to work in; undefined as `open`. End it with `discard`. */
  async scratch(namespace: string, capacityTokens: number): Promise<Run | undefined> {
    const run = await this.#runs.take(namespace, NO_ROWS, capacityTokens);
    return run && Object.assign(run, { isPrivate: true });
  }

  /**
   * Begins a scratch run anew with as much of `tokens` (whole chunks) as it has itself, or host memory.
   *
   * @returns where the rows came from; the rest is to be prefilled from row `run.length` on, and then kept by `store`.
   * @throws RadixkvError `engine_failed`.
   */
  async refill(run: Run, tokens: Int32Array, prefetch: Prefetch | undefined): Promise<RowsByTier> {
    const kept = commonPrefix(run.tokens.subarray(0, run.settled), tokens);
    run.tokens.set(tokens);
    Object.assign(run, { length: kept, settled: kept, exact: Math.min(kept, run.exact) });
    const lease = this.#acquire(run.namespace, tokens, 'lossy');
    try {
      const { cached, blended } = await this.#fill(run, lease, prefetch);
      return {
        device: 0,
        host: cached.host + blended.host,
        disk: cached.disk + blended.disk,
        remote: cached.remote + blended.remote,
      };
    } finally {
      if (lease !== undefined) this.#prefixes!.release(lease);
    }
  }

  /**
   * Keeps the rows of `tokens` (whole chunks), with which a scratch run begins and which were made by prefill.
   * @returns as `commit`
   */
  async store(run: Run, tokens: Int32Array): Promise<RowsByTier> {
    this.#settled(run, tokens.length);
    return this.#sealAll(run, tokens);
  }

  /**
   * Keeps whole chunks that are in the tiers for so long after each use, and pins them as far as the budget of pins
   * goes. What they stand behind stays with them, since no chunk goes before those after it.
   */
  keep(namespace: string, tokens: Int32Array, { ttlMs, isPinned, sharedTokens }: KeepOptions): void {
    const prefixes = this.#prefixes;
    if (prefixes === undefined) return;
    const chunks = { namespace, tokens, from: sharedTokens };
    prefixes.retain(chunks, ttlMs === undefined ? {} : { ttlMs });
    if (isPinned) prefixes.pin(chunks, { ttlMs: ttlMs ?? PIN_MS });
    else prefixes.unpin(chunks);
  }

  /** Lets go of whole chunks that no other sequence needs, in all tiers below the device. */
  forget(namespace: string, tokens: Int32Array): void {
    this.#prefixes?.forget(namespace, tokens);
  }

  /** Loads what a lease has beyond the rows of a run, which is discarded when the engine fails. */
  async #fill(
    run: Run,
    lease: PrefixLease | undefined,
    prefetch: Prefetch | undefined,
  ): Promise<Omit<OpenedRun, 'run'>> {
    const device = run.length;
    if (lease !== undefined) {
      await this.#load(run, lease).catch((error: unknown) => {
        this.discard(run);
        throw error;
      });
    }
    const used = lease?.found.slice(0, Math.ceil(run.length / this.#layout.chunkTokens)) ?? [];
    this.#prefixes?.use(used);
    const rowsByTier = (start: number, end: number): RowsByTier => {
      const below = Math.max(start, device);
      const disk = this.#rowsAmong(used, prefetch?.fromDisk, { start: below, end });
      const remote = this.#rowsAmong(used, prefetch?.fromRemote, { start: below, end });
      const onDevice = Math.max(0, Math.min(end, device) - start);
      return { device: onDevice, host: Math.max(0, end - below) - disk - remote, disk, remote };
    };
    return {
      cached: rowsByTier(0, run.exact),
      blended: rowsByTier(run.exact, run.length),
      nodes: this.#prefixes?.byNode(used) ?? [],
    };
  }

  /**
   * A second active run with the same rows, for another answer to the same prompt, which copies no chunk that both
   * have; undefined as `open`.
   */
  async fork(run: Run, rowsMax: number): Promise<Run | undefined> {
    const from = { run, rows: run.length };
    const copy = await this.#runs.take(run.namespace, from, run.capacityTokens, { rowsMax });
    copy?.tokens.set(run.tokens.subarray(0, run.length));
    return copy;
  }

  /**
   * Keeps the rows of a run in host memory, as far as there is room, until `endSetAside`; the run itself is to be
   * released or discarded.
   *
   * @param tokens those of its rows, and maybe more that are to be computed behind them
   * @throws RadixkvError `engine_failed`.
   */
  setAside(run: Run, tokens: Int32Array): Promise<SetAside> {
    return setAside(this.#parts(), run, tokens);
  }

  /**
   * A run with the rows that were set aside, or as many as could be kept: those from `run.length` on are to be
   * prefilled. Undefined as `open`.
   *
   * @throws RadixkvError `engine_failed`.
   */
  async restore(saved: SetAside, capacityTokens: number, rowsMax: number): Promise<Run | undefined> {
    const { namespace, tokens, exact, blended, isPrivate, lease } = saved;
    const shared = tokens.subarray(0, exact);
    const from = isPrivate ? NO_ROWS : this.#runs.longest(namespace, shared, 'exact');
    const run = await this.#runs.take(namespace, from, capacityTokens, { rowsMax, isWhole: blended > 0 });
    if (run === undefined) return undefined;
    Object.assign(run, { isPrivate });
    run.tokens.set(tokens);
    try {
      if (lease !== undefined) {
        await Promise.all(lease.found.map((chunk) => this.#prefixes!.promote(chunk)));
        await this.#load(run, lease);
      }
      await bringBack(this.#parts(), run, saved);
    } catch (error) {
      this.discard(run);
      throw error;
    }
    return run;
  }

  /** What can be had back of a run that the engine lost, as `setAside` gives it. */
  recover(run: Run, tokens: Int32Array): SetAside {
    return recover(this.#parts(), run, tokens);
  }

  /** Gives up what was set aside. */
  endSetAside({ lease, slots }: SetAside): void {
    this.#prefixes?.abort(slots);
    if (lease !== undefined) this.#prefixes!.release(lease);
  }

  #parts() {
    return { engine: this.#engine, layout: this.#layout, prefixes: this.#prefixes };
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

  /**
   * Rows `[run.settled, end)` were made by prefill: they may be shared, and whole chunks go to the host tier. Not so
   * where they stand behind blended rows.
   *
   * @returns those of them that a tier had evicted, in whole chunks
   */
  async commit(run: Run, end: number): Promise<RowsByTier> {
    run.length = Math.max(run.length, end);
    if (run.blended > 0) return NOTHING;
    this.#settled(run, end);
    return run.isPrivate ? NOTHING : this.#sealAll(run, run.tokens.subarray(0, end));
  }

  /** Rows `[run.settled, end)` of a whole prompt were blended. */
  blended(run: Run, end: number): void {
    run.length = end;
    run.blended = end;
  }

  /** Rows computed over exact ones are exact, over lossy ones lossy. */
  #settled(run: Run, end: number): void {
    if (run.exact === run.settled) run.exact = end;
    run.settled = end;
  }

  /** Whole chunks of `tokens`, which a run begins with → the host tier. */
  async #sealAll(run: Run, tokens: Int32Array): Promise<RowsByTier> {
    const chunks = Math.floor(tokens.length / this.#layout.chunkTokens);
    if (this.#prefixes === undefined || chunks === 0) return NOTHING;
    const whole = tokens.subarray(0, chunks * this.#layout.chunkTokens);
    const regretted = { ...NOTHING };
    let end: number;
    do {
      const sealed = await this.#seal(run, whole, this.#prefixes);
      end = sealed.end;
      regretted.host += sealed.regretted.host;
      regretted.disk += sealed.regretted.disk;
    } while (end > 0 && end < chunks);
    return regretted;
  }

  /**
   * Seals what the tiers lack of `tokens`, up to the next present chunk.
   * @returns the end of what it sealed, in chunks (0: nothing), and what of it had been evicted, in tokens
   */
  async #seal(run: Run, tokens: Int32Array, prefixes: PrefixCache) {
    const { namespace } = run;
    const lease = prefixes.acquire(namespace, tokens, 'whole chunks');
    try {
      const reserved = prefixes.reserve(namespace, tokens, lease);
      if (reserved.length === 0) return { end: 0, regretted: NOTHING };
      const { chunkTokens } = this.#layout;
      const slots = reserved.map(({ slot, index }) => {
        return { slot, start: index * chunkTokens, rows: chunkTokens };
      });
      try {
        const { result } = await this.#engine.call<'seal'>({ op: 'seal', run: run.id, chunks: slots });
        const { checksums } = result;
        const regretted = prefixes.commit(namespace, tokens, {
          lease,
          chunks: reserved,
          checksums,
          exactTokens: run.exact,
        });
        return { end: reserved.at(-1)!.index + 1, regretted };
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
      remote: this.#remote?.reading(),
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
    const [begun, end] = [run.length, Math.max(run.length, first * chunkTokens + loaded)];
    const lossy = readable.slice(0, result.loaded).findIndex((chunk) => !chunk.isExact);
    // The chunk within which the run ended is loaded whole, over rows that may have been exact.
    const exactEnd = lossy < 0 ? end : (first + lossy) * chunkTokens;
    run.exact = run.exact === begun ? exactEnd : Math.min(run.exact, exactEnd);
    run.length = end;
    run.settled = end;
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

async function allOf(parts: readonly Promise<void>[]): Promise<void> {
  await Promise.all(parts);
}
