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
 * Invariants: Σ capacity of runs ≤ the budget; a warm run's memory is taken only when nobody copies from it; a hit is
 * believed only after its tokens compare equal. The memory itself is the engine's. Knows no other tier.
 */
import assert from 'node:assert/strict';
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
  capacityTokens: number;
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

  /** An active run with the first `rows` rows of `from`: that very run where it can be taken over, else a copy. */
  async take(namespace: string, from: SharedRows, capacityTokens: number): Promise<Run | undefined> {
    const { run, rows } = from;
    const losesLittle = run !== undefined && shareable(run) - rows < this.#layout.chunkTokens;
    if (run !== undefined && !run.isActive && losesLittle && run.capacityTokens >= capacityTokens) {
      return truncate(run, rows, run);
    }
    const fresh = this.#allocate(namespace, capacityTokens, run);
    if (fresh === undefined || run === undefined || !this.#runs.has(run.id)) return fresh;
    await this.#copy(run, fresh, rows);
    truncate(fresh, rows, run);
    if (!run.isActive && losesLittle) this.#free(run);
    else run.usedAt = ++this.#now;
    return fresh;
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

  /** Ends a run and frees its memory. */
  discard(run: Run): void {
    if (this.#runs.has(run.id)) this.#free(run);
  }

  /** The most recently used warm run with rows that decode made, for the scheduler to have them computed again. */
  unsettled(): Run | undefined {
    let latest: Run | undefined;
    for (const run of this.#runs.values()) {
      const waits = !run.isActive && run.blended === 0 && run.settled < run.length;
      if (waits && (latest === undefined || run.usedAt > latest.usedAt)) latest = run;
    }
    return latest;
  }

  /** Frees every run that no request uses; what the host tier holds stays. */
  dropWarm(): void {
    for (const run of this.#runs.values()) if (!run.isActive) this.#free(run);
  }

  /** The engine lost its memory: every run is gone. */
  forget(): void {
    this.#runs.clear();
  }

  reading() {
    const runs = [...this.#runs.values()];
    const tokens = runs.reduce((sum, run) => sum + run.settled, 0);
    return {
      tier: {
        bytes: this.#usedBytes(),
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
    const capacity = capacityFor(capacityTokens);
    const bytes = capacity * this.#layout.tokenBytes;
    const active = [...this.#runs.values()].filter((run) => run.isActive);
    const taken = active.reduce((sum, run) => sum + this.#bytesOf(run), 0);
    if (taken + bytes > this.#capacityBytes) return undefined;
    while (this.#usedBytes() + bytes > this.#capacityBytes) {
      this.#free(this.#victim(source));
      this.#evicted++;
    }
    const run: Run = {
      id: this.#nextRun++,
      namespace,
      capacityTokens: capacity,
      tokens: new Int32Array(capacity),
      length: 0,
      settled: 0,
      exact: 0,
      isActive: true,
      usedAt: ++this.#now,
      blended: 0,
      isPrivate: false,
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

  #bytesOf(run: Run): number {
    return run.capacityTokens * this.#layout.tokenBytes;
  }

  #usedBytes(): number {
    return [...this.#runs.values()].reduce((sum, run) => sum + this.#bytesOf(run), 0);
  }
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
