/**
 * Device memory in runs: one for each sequence, within a byte budget.
 *
 * A *run* is the device memory of one sequence. While a request uses it, it is *active*; afterwards it stays *warm*
 * until its memory is needed. Its rows, from the first to the last, are of these kinds, any of which may be empty:
 *
 * | rows                | made by                                | shared with                                   |
 * |---------------------|----------------------------------------|-----------------------------------------------|
 * | `[0, exact)`        | prefill: bit for bit as any other one  | everyone                                      |
 * | `[exact, settled)`  | prefill over KV from a lossy copy      | whoever accepts `lossy`                       |
 * | `[settled, length)` | decode, to be settled by a prefill     | nobody                                        |
 * | `[settled, length)` | blending, and decode after it          | whoever accepts `blended`, from the prompt's  |
 * |                     | (`blended` > 0)                        | end on: only those that continue this prompt  |
 *
 * Exact rows that another run has already are not copied but read of it: they are the run's *base*, whole chunks of
 * the other's first ones. A base has no base itself, and stays as it is as long as a run stands on it.
 *
 * Invariants: Σ memory of runs ≤ the budget, a base counted once; a warm run's memory is taken only when nobody copies
 * from it or stands on it; a hit is believed only after its tokens compare equal. The memory itself is the engine's.
 * Knows no other tier.
 */
import assert from 'node:assert/strict';
import type { Parting } from '#radix';
import type { KvLayout } from '#storage';
import type { Engine } from '../engine/engine.js';
import type { RunId } from '../engine/protocol.js';

/** What else than exact rows may be shared with a prompt: each accepts what those before it do. */
export type Accepts = 'exact' | 'lossy' | 'blended';

/** Capacities are multiples of this, so that a few more tokens need no new memory. */
const CAPACITY_STEP_TOKENS = 256;

export interface Run {
  readonly id: RunId;
  readonly namespace: string;
  /** Rows it has room for, those of its base included. */
  capacityTokens: number;
  /** Its first rows are these, `[0, rows)` of another run. */
  readonly base: RunBase | undefined;
  /** Tokens of the rows; `[0, length)` are meaningful. */
  tokens: Int32Array;
  length: number;
  settled: number;
  exact: number;
  isActive: boolean;
  /** Logical time of the last use, for eviction. */
  usedAt: number;
  /** Tokens of the blended prompt; 0: nothing in the run is blended. */
  blended: number;
  /** Shared with nobody, and kept for nobody. */
  isPrivate: boolean;
}

export interface RunBase {
  readonly run: Run;
  readonly rows: number;
}

/** A run that shares rows with a prefix, and how many. */
export interface SharedRows {
  readonly run: Run | undefined;
  readonly rows: number;
}

export const NO_ROWS: SharedRows = { run: undefined, rows: 0 };

export class DeviceRuns {
  readonly #engine: Engine;
  readonly #layout: KvLayout;
  readonly #capacityBytes: number;
  readonly #runs = new Map<RunId, Run>();
  #nextRun = 0;
  #now = 0;
  #evicted = 0;

  constructor(options: {
    readonly engine: Engine;
    readonly layout: KvLayout;
    readonly capacityBytes: number;
  }) {
    this.#engine = options.engine;
    this.#layout = options.layout;
    this.#capacityBytes = options.capacityBytes;
  }

  /** Longest sequence the device budget can hold at all. */
  get tokensMax(): number {
    const steps = Math.floor(this.#capacityBytes / (this.#layout.tokenBytes * CAPACITY_STEP_TOKENS));
    return steps * CAPACITY_STEP_TOKENS;
  }

  /** Whether runs of so many tokens can be held at the same time, when nothing else is. */
  fits(runs: readonly number[]): boolean {
    return runs.reduce((sum, tokens) => sum + capacityFor(tokens), 0) <= this.tokensMax;
  }

  /** The run that shares the longest prefix, and how many of its rows. */
  longest(namespace: string, tokens: Int32Array, accepts: Accepts): SharedRows {
    let longest = NO_ROWS;
    for (const run of this.#runs.values()) {
      if (run.namespace !== namespace || run.isPrivate) continue;
      const rows = sharedRows(run, tokens, accepts);
      if (rows > longest.rows) longest = { run, rows };
    }
    return longest;
  }

  /**
   * How many of `tokens` agree with the run that has most of them, whoever may use it, and what it goes on with. Runs
   * that do not agree at position `beyond` are passed over at once.
   */
  parting(
    namespace: string,
    tokens: Int32Array,
    { count, beyond }: { readonly count: number; readonly beyond: number },
  ): Parting {
    let nearest: Parting = { depth: 0, next: new Int32Array() };
    for (const run of this.#runs.values()) {
      if (run.namespace !== namespace || run.isPrivate) continue;
      if (beyond > 0 && (run.length <= beyond || run.tokens[beyond] !== tokens[beyond])) continue;
      const depth = commonPrefix(run.tokens.subarray(0, run.length), tokens);
      const next = run.tokens.slice(depth, Math.min(run.length, depth + count));
      if (depth > nearest.depth || (depth === nearest.depth && next.length > nearest.next.length))
        nearest = { depth, next };
    }
    return nearest;
  }

  /**
   * An active run with the first `rows` rows of `from`: that very run where it can be taken over, else one that stands
   * on it or has a copy.
   *
   * @param options.rowsMax what it may have to grow to; default: its capacity
   * @param options.isWhole no rows of it may be another run's
   */
  async take(
    namespace: string,
    from: SharedRows,
    capacityTokens: number,
    { rowsMax = capacityTokens, isWhole = false }: { rowsMax?: number; isWhole?: boolean } = {},
  ): Promise<Run | undefined> {
    const { run, rows } = from;
    if (run === undefined) return this.#allocate(namespace, capacityTokens);
    const losesLittle = shareable(run) - rows < this.#layout.chunkTokens;
    const isFree = !run.isActive && losesLittle && this.#rowsStoodOn(run) <= rows;
    const fits = run.capacityTokens >= capacityTokens && baseRows(run) <= (isWhole ? 0 : rows);
    if (isFree && fits) return truncate(run, rows, run);
    const base = isWhole ? undefined : this.#baseOf(from, rowsMax);
    const standing = base && this.#allocate(namespace, capacityTokens, { source: run, base });
    const fresh = standing ?? this.#allocate(namespace, capacityTokens, { source: run });
    if (fresh === undefined || !this.#runs.has(run.id)) return fresh;
    await this.#copy(run, fresh, rows);
    truncate(fresh, rows, run);
    if (isFree && this.#rowsStoodOn(run) === 0) this.#free(run);
    else run.usedAt = ++this.#now;
    return fresh;
  }

  /**
   * What a run that shares rows can stand on; undefined for less than a chunk, and where memory might not suffice to
   * let it grow to `rowsMax` beside its base, however large that is.
   */
  #baseOf({ run, rows }: SharedRows, rowsMax: number): RunBase | undefined {
    if (run === undefined) return undefined;
    const { chunkTokens } = this.#layout;
    const base = run.base ?? { run, rows: run.exact };
    const whole = Math.floor(Math.min(rows, base.rows) / chunkTokens) * chunkTokens;
    const grown = base.run.capacityTokens + 2 * capacityFor(rowsMax - whole);
    return whole > 0 && grown <= this.tokensMax ? { run: base.run, rows: whole } : undefined;
  }

  #standingOn(run: Run): Run[] {
    return [...this.#runs.values()].filter(({ base }) => base?.run === run);
  }

  /** The first rows of a run that others stand on. */
  #rowsStoodOn(run: Run): number {
    return Math.max(0, ...this.#standingOn(run).map(baseRows));
  }

  /**
   * Makes room for one more row.
   *
   * @returns false when no memory can be had.
   */
  async grow(run: Run): Promise<boolean> {
    if (run.length < run.capacityTokens) return true;
    const { base } = run;
    const larger = this.#allocate(run.namespace, run.capacityTokens + CAPACITY_STEP_TOKENS, {
      source: run,
      ...(base && { base }),
    });
    if (larger === undefined) return false;
    await this.#copy(run, larger, run.length);
    // The caller keeps its `Run`: the two swap their memory.
    larger.tokens.set(run.tokens.subarray(0, run.length));
    const { id, capacityTokens, tokens } = run;
    Object.assign(run, { id: larger.id, capacityTokens: larger.capacityTokens, tokens: larger.tokens });
    Object.assign(larger, { id, capacityTokens, tokens });
    this.#runs.set(run.id, run);
    this.#runs.set(larger.id, larger);
    for (const other of this.#standingOn(run)) this.#send({ op: 'rebaseRun', run: other.id, base: run.id });
    this.#free(larger);
    return true;
  }

  /** Ends a request's use of a run, which stays warm. */
  release(run: Run): void {
    if (!this.#runs.has(run.id)) return;
    if (run.isPrivate) {
      this.#free(run);
      return;
    }
    run.isActive = false;
    run.usedAt = ++this.#now;
  }

  /** Ends a run and frees its memory, or leaves it to those that stand on it. */
  discard(run: Run): void {
    if (!this.#runs.has(run.id)) return;
    if (this.#rowsStoodOn(run) === 0) this.#free(run);
    else Object.assign(run, { isActive: false, isPrivate: true });
  }

  /** The most recently used warm run with rows that decode made, for the scheduler to have them computed again. */
  unsettled(): Run | undefined {
    let latest: Run | undefined;
    for (const run of this.#runs.values()) {
      const isShared = !run.isActive && !run.isPrivate;
      const waits = isShared && run.blended === 0 && run.settled < run.length;
      if (waits && (latest === undefined || run.usedAt > latest.usedAt)) latest = run;
    }
    return latest;
  }

  /** Frees every run that no request uses or stands on; what the host tier holds stays. */
  dropWarm(): void {
    for (let victim = this.#victim(); victim !== undefined; victim = this.#victim()) this.#free(victim);
  }

  /**
   * Nobody finds the runs of a namespace any more, or those of a prefix: that begin with it, or are its beginning. Those
   * that no request uses or stands on are freed. @returns how many they were, and how many of them are in use
   */
  forgetNamespace(namespace: string, prefix?: Int32Array): { readonly runs: number; readonly inUse: number } {
    const isMeant = ({ tokens, length }: Run) =>
      prefix === undefined ||
      commonPrefix(tokens.subarray(0, length), prefix) === Math.min(length, prefix.length);
    const found = [...this.#runs.values()].filter(
      (run) => run.namespace === namespace && !run.isPrivate && isMeant(run),
    );
    const inUse = found.filter((run) => run.isActive).length;
    for (const run of found) {
      run.isPrivate = true;
      if (!run.isActive) this.discard(run);
    }
    return { runs: found.length, inUse };
  }

  /** Every namespace that has runs which can be found. */
  namespaces(): string[] {
    return [...this.#runs.values()].filter((run) => !run.isPrivate).map(({ namespace }) => namespace);
  }

  /** The engine lost its memory: every run is gone. */
  forget(): void {
    this.#runs.clear();
  }

  reading() {
    const runs = [...this.#runs.values()];
    const tokens = runs.reduce((sum, run) => sum + run.settled - baseRows(run), 0);
    const logicalTokens = runs.reduce((sum, run) => sum + run.capacityTokens, 0);
    return {
      tier: {
        bytes: this.#usedBytes(),
        logicalBytes: logicalTokens * this.#layout.tokenBytes,
        capacityBytes: this.#capacityBytes,
        chunks: Math.floor(tokens / this.#layout.chunkTokens),
      },
      active: runs.filter((run) => run.isActive).length,
      evicted: this.#evicted,
    };
  }

  /** For tests and idle times. */
  audit(): void {
    assert(this.#usedBytes() <= this.#capacityBytes, 'the device budget holds');
    for (const run of this.#runs.values()) {
      if (run.base === undefined) continue;
      const { run: base, rows } = run.base;
      assert(this.#runs.get(base.id) === base && base.base === undefined, 'a base is there and has none');
      assert(rows <= base.exact && rows <= run.exact && rows <= run.length, 'a base is exact');
    }
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

  /** New memory, evicting warm runs, least recently used first; `source` goes last, and the base not at all. */
  #allocate(
    namespace: string,
    capacityTokens: number,
    { source, base }: { readonly source?: Run; readonly base?: RunBase } = {},
  ): Run | undefined {
    const first = base?.rows ?? 0;
    const capacity = first + capacityFor(capacityTokens - first);
    const bytes = (capacity - first) * this.#layout.tokenBytes;
    const active = [...this.#runs.values()].filter((run) => run.isActive);
    const pinned = new Set([...active, ...active.map((run) => run.base?.run), base?.run]);
    const taken = [...pinned].reduce((sum, run) => sum + (run === undefined ? 0 : this.#bytesOf(run)), 0);
    if (taken + bytes > this.#capacityBytes) return undefined;
    while (this.#usedBytes() + bytes > this.#capacityBytes) {
      const victim = this.#victim({ source, kept: base?.run });
      assert(victim !== undefined, 'the budget holds what is not active');
      this.#free(victim);
      this.#evicted++;
    }
    const run: Run = {
      id: this.#nextRun++,
      namespace,
      capacityTokens: capacity,
      tokens: new Int32Array(capacity),
      length: first,
      settled: first,
      exact: first,
      isActive: true,
      usedAt: ++this.#now,
      blended: 0,
      isPrivate: false,
      base,
    };
    this.#runs.set(run.id, run);
    this.#send({
      op: 'createRun',
      run: run.id,
      capacityTokens: capacity,
      ...(base && { base: { run: base.run.id, rows: base.rows } }),
    });
    return run;
  }

  /** The least recently used run that is not active and that no other stands on; `source` if there is no other. */
  #victim({ source, kept }: { source?: Run | undefined; kept?: Run | undefined } = {}): Run | undefined {
    const bases = new Set([...this.#runs.values()].map(({ base }) => base?.run));
    const free = [...this.#runs.values()].filter((run) => !run.isActive && run !== kept && !bases.has(run));
    const others = free.filter((run) => run !== source);
    const candidates = others.length > 0 ? others : free;
    return candidates.toSorted((a, b) => a.usedAt - b.usedAt)[0];
  }

  #free(run: Run): void {
    this.#runs.delete(run.id);
    this.#send({ op: 'freeRun', run: run.id });
    const base = run.base?.run;
    const isLeft = base?.isPrivate === true && !base.isActive && this.#runs.get(base.id) === base;
    if (isLeft && this.#standingOn(base).length === 0) this.#free(base);
  }

  /** Requests that only fail with the engine, whose death the next awaited request reports. */
  #send(request: Parameters<Engine['call']>[0]): void {
    this.#engine.call(request).catch(() => {});
  }

  #bytesOf(run: Run): number {
    return (run.capacityTokens - baseRows(run)) * this.#layout.tokenBytes;
  }

  #usedBytes(): number {
    return [...this.#runs.values()].reduce((sum, run) => sum + this.#bytesOf(run), 0);
  }
}

function baseRows({ base }: Run): number {
  return base?.rows ?? 0;
}

/** How many of a run's first rows are in one piece. */
export function wholeRows({ base, length }: Pick<Run, 'base' | 'length'>): number {
  return base?.rows ?? length;
}

function capacityFor(tokens: number): number {
  return Math.ceil(tokens / CAPACITY_STEP_TOKENS) * CAPACITY_STEP_TOKENS;
}

function sharedRows(run: Run, tokens: Int32Array, accepts: Accepts): number {
  const rows = commonPrefix(run.tokens.subarray(0, run.length), tokens);
  if (accepts === 'blended' && run.blended > 0 && rows >= run.blended) return rows;
  return Math.min(rows, accepts === 'exact' ? run.exact : run.settled);
}

/** Rows that another sequence might go on from. */
function shareable(run: Run): number {
  return run.blended > 0 ? run.length : run.settled;
}

/** An active run that has the first `rows` rows of `from`, which may be the run itself, and nothing else. */
function truncate(run: Run, rows: number, from: Run): Run {
  const settled = Math.min(rows, from.settled);
  return Object.assign(run, {
    isActive: true,
    length: rows,
    settled,
    exact: Math.min(rows, from.exact),
    blended: rows > settled ? from.blended : 0,
    isPrivate: from.isPrivate,
  });
}

/** Length of the longest common prefix. */
export function commonPrefix(a: Int32Array, b: Int32Array): number {
  const end = Math.min(a.length, b.length);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
}
