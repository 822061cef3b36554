/**
 * Who waits and who computes: the queue, the places on the device, and the ways between them. The policy decides
 * (policy.ts); this does it.
 *
 * A sequence waits, with what the disk has of it being read; it is opened when it is its turn and there is room; it may
 * give way, and be resumed or opened again; and it leaves, from wherever it is, giving back all it holds.
 */
import { commonPrefix, type Run } from '../cache/device-runs.js';
import type { KvCache, OpenedRun, Prefetch } from '../cache/kv-cache.js';
import type { Engine } from '../engine/engine.js';
import type { SamplerId } from '../engine/protocol.js';
import { RadixkvError } from '../errors.js';
import { Blending, scratchTokens } from './blending.js';
import { SHOWN_AFTER_TOKENS } from './miss.js';
import type { SchedulingPolicy } from './policy.js';
import type { Sequence } from './sequence.js';

export interface PlaceLimits {
  readonly chunkTokens: number;
  readonly maxActive: number;
  /** Requests that may wait, beside the places of those that compute, and their prompt tokens. */
  readonly maxQueue: number;
  readonly maxQueueTokens: number;
}

/** What places need of the scheduler. */
export interface PlaceUser {
  /** Something changed: there may be work to do. */
  notify(): void;
  /** Runs a step of one sequence; an operating error ends that sequence alone. */
  guard<T>(sequence: Sequence, step: () => Promise<T>): Promise<T | undefined>;
  freeSampler(sequence: Sequence, sampler: SamplerId): void;
  /** @param drawn tokens of the answer so far */
  createSampler(sequence: Sequence, index: number, drawn: Int32Array): SamplerId;
  /** Of a prefill tile from a row on. */
  tileTokens(start: number): number;
  /** Whether others than sequences hold device memory, and will give it back. */
  isSharingMemory(): boolean;
}

/** Rows reserved beyond the prompt at first; more are added as an answer grows. */
const ANSWER_ROWS = 256;

/** How often a request is begun again after the engine failed. */
const RETRIES_MAX = 1;

/** Fewer tokens are not worth a tile of their own. */
const HIDDEN_TOKENS_MIN = 16;

export class Places {
  readonly queue: Sequence[] = [];
  readonly active = new Set<Sequence>();
  readonly #cache: KvCache;
  readonly #engine: Engine;
  readonly #policy: SchedulingPolicy;
  readonly #limits: PlaceLimits;
  readonly #user: PlaceUser;
  #preemptions = 0;
  #retries = 0;
  /** In the queue, while the engine opens or resumes it. */
  #beginning: Sequence | undefined;

  constructor(parts: {
    readonly cache: KvCache;
    readonly engine: Engine;
    readonly policy: SchedulingPolicy;
    readonly limits: PlaceLimits;
    readonly user: PlaceUser;
  }) {
    this.#cache = parts.cache;
    this.#engine = parts.engine;
    this.#policy = parts.policy;
    this.#limits = parts.limits;
    this.#user = parts.user;
  }

  get preemptions(): number {
    return this.#preemptions;
  }

  /** How often a request was begun again after the engine failed. */
  get retries(): number {
    return this.#retries;
  }

  /** @throws RadixkvError `queue_full`. */
  join(sequence: Sequence): void {
    const { maxActive, maxQueue, maxQueueTokens } = this.#limits;
    const waiting = this.queue.length;
    const tokens = this.queue.reduce((sum, { prompt }) => sum + prompt.length, sequence.prompt.length);
    if (waiting + this.active.size >= maxActive + maxQueue || (waiting > 0 && tokens > maxQueueTokens)) {
      throw new RadixkvError('queue_full', `${waiting} requests are waiting already`, {
        retryAfterS: 1 + Math.ceil(waiting / maxActive),
      });
    }
    this.queue.push(sequence);
    this.#policy.tenants.came(sequence.tenant);
  }

  /** Lets begin who is next, as far as there is room. */
  async admit(): Promise<void> {
    const held = new Set<Sequence>();
    while (this.#engine.isReady && !this.#isFull()) {
      const next = this.#policy.next(
        this.queue.filter((sequence) => !held.has(sequence) && this.#canBegin(sequence)),
        performance.now(),
      );
      if (next === undefined) return;
      held.add(next);
      this.#beginning = next;
      const began = await this.#user.guard(next, () => this.#begin(next));
      this.#beginning = undefined;
      if (began === false) return;
    }
  }

  /** Whether nobody could begin, so that nobody need be looked at: what is cached of a prompt takes time to find. */
  #isFull(): boolean {
    if (this.active.size < this.#limits.maxActive) return this.queue.length === 0;
    return this.queue.every((sequence) => this.#policy.victim(this.active, sequence) === undefined);
  }

  /** Whether a queued sequence could begin now if it was its turn. */
  #canBegin(sequence: Sequence): boolean {
    const isThere = sequence.isLoaded || this.#canBeginEarly(sequence);
    return isThere && (sequence.paused.length > 0 || !this.#waitsForPrefix(sequence));
  }

  /** Opens or resumes a sequence, for which less important ones give way. @returns false when there is no room. */
  async #begin(sequence: Sequence): Promise<boolean> {
    for (;;) {
      const isOpen =
        this.#policy.hasPlace(sequence, [...this.active]) &&
        (sequence.paused.length > 0 ? await this.#resume(sequence) : await this.#open(sequence));
      if (isOpen) return true;
      const victim = this.#policy.victim(this.active, sequence);
      if (victim === undefined) return false;
      await this.preempt(victim);
    }
  }

  /** Whether there is time to prefill where a prompt begins, while its passages are being loaded. */
  #canBeginEarly({ isLoading, prefetch, documents }: Sequence): boolean {
    const hidden = prefetch?.hiddenTokens ?? 0;
    return (
      isLoading && documents.order !== undefined && this.active.size === 0 && hidden >= HIDDEN_TOKENS_MIN
    );
  }

  /** Begins to load what the disk has of queued prompts, the first ones first, as far as there is memory for it. */
  loadQueued(): void {
    for (const sequence of this.queue) {
      if (sequence.isLoaded || sequence.isLoading || sequence.paused.length > 0) continue;
      const { request, prompt, accepts, documents } = sequence;
      const segments = documents.order?.segments.map(({ segment }) => segment) ?? [];
      const prefetch =
        request.cache.mode === 'off'
          ? undefined
          : this.#cache.prefetch(request.namespace, prompt, { accepts, segments });
      if (prefetch === 'full') return;
      if (prefetch === undefined) sequence.loaded(false);
      else {
        sequence.prefetch = prefetch;
        sequence.loadBegan();
        void this.#load(sequence, prefetch);
      }
    }
  }

  async #load(sequence: Sequence, { done }: Prefetch): Promise<void> {
    await done;
    sequence.loaded(true);
    this.#user.notify();
  }

  /** Whether a running prefill will soon hold a chunk or more of this prompt beyond what is cached now. */
  #waitsForPrefix(sequence: Sequence): boolean {
    const { prompt, request } = sequence;
    let cached: number | undefined;
    for (const other of this.active) {
      if (other.isPrefilled || other.request.namespace !== request.namespace) continue;
      const reach = Math.min(other.exactEnd, sequence.exactEnd);
      const shared = Math.min(reach, commonPrefix(other.prompt, prompt));
      if (shared < this.#limits.chunkTokens) continue;
      cached ??= this.#cache.peek(request.namespace, prompt, sequence.accepts);
      if (shared - cached >= this.#limits.chunkTokens) return true;
    }
    return false;
  }

  /** @returns false when there is no device memory for it now. */
  async #open(sequence: Sequence): Promise<boolean> {
    const { prompt, request } = sequence;
    const rowsMax = prompt.length + sequence.answerTokensMax;
    const rows = this.#rowsAtFirst(prompt.length, rowsMax);
    if (!sequence.hasBegun && request.cache.mode !== 'off') this.#lookAhead(sequence);
    const opened = await this.#cache.open(request.namespace, prompt, rows, {
      rowsMax,
      prefetch: sequence.prefetch,
      accepts: sequence.accepts,
      isPrivate: request.cache.mode === 'off',
    });
    if (opened === undefined) return false;
    const canBegin = await this.#blend(sequence, opened);
    if (!canBegin || !this.#takeFromQueue(sequence)) {
      // There is no memory for it, or it failed meanwhile.
      sequence.blending?.drop();
      this.#cache.release(opened.run);
      return canBegin;
    }
    if (sequence.blending === undefined) this.endPrefetch(sequence);
    sequence.run = opened.run;
    // What a sequence computed itself before it gave way is not what it found.
    if (!sequence.hasBegun) {
      const { cached, blended: continued, nodes } = opened;
      Object.assign(sequence, { cached, continued, nodes });
    }
    sequence.opened();
    this.active.add(sequence);
    const { length: start } = opened.run;
    const ms = this.#policy.prefillCosts.predict({ start, tokens: prompt.length - start });
    sequence.prepaidMs = ms;
    this.#policy.tenants.charge(sequence.tenant, ms);
    return true;
  }

  /** Notes what stands where the prompt leaves the cache, before its own rows stand there. */
  #lookAhead(sequence: Sequence): void {
    const { prompt, request } = sequence;
    sequence.parting = this.#cache.parting(request.namespace, prompt, SHOWN_AFTER_TOKENS);
  }

  /** Brings back the answers of a sequence that gave way. @returns false when there is no device memory for it now. */
  async #resume(sequence: Sequence): Promise<boolean> {
    const { prompt, paused } = sequence;
    const rowsMax = prompt.length + sequence.answerTokensMax;
    const runs: Run[] = [];
    for (const { saved } of paused) {
      const run = await this.#cache.restore(saved, this.#rowsAtFirst(saved.tokens.length, rowsMax), rowsMax);
      if (run !== undefined) {
        runs.push(run);
        continue;
      }
      for (const each of runs) this.#cache.discard(each);
      if (this.active.size > 0 || this.#user.isSharingMemory()) return false;
      throw noMemory('to continue the answer');
    }
    if (!this.#takeFromQueue(sequence)) {
      for (const run of runs) this.#cache.discard(run);
      return true;
    }
    sequence.branches = paused.map(({ saved, ...answer }, i) => {
      const drawn = Int32Array.of(...saved.tokens.subarray(prompt.length), answer.nextToken);
      const sampler = answer.sampler ?? this.#user.createSampler(sequence, answer.choice.index, drawn);
      return { ...answer, sampler, run: runs[i]!, rows: saved.tokens.length };
    });
    sequence.run = runs[0];
    this.#endPause(sequence);
    sequence.resumed();
    this.active.add(sequence);
    sequence.request.trace?.phase('decode');
    return true;
  }

  /** An active sequence gives way to others, and is queued again. */
  async preempt(sequence: Sequence): Promise<void> {
    await this.#user.guard(sequence, async () => {
      for (const { run, rows, ...answer } of sequence.branches) {
        const tokens = run.tokens.subarray(0, Math.max(rows, run.length));
        const saved = await this.#cache.setAside(run, tokens);
        if (this.active.has(sequence)) sequence.paused.push({ ...answer, saved });
        else this.#cache.endSetAside(saved);
      }
    });
    await sequence.blendSteps?.return([]);
    if (!this.active.has(sequence)) return;
    this.#preemptions++;
    sequence.gaveWay();
    const rows = sequence.run?.length ?? 0;
    this.#endWork(sequence);
    if (!sequence.isPrefilled) {
      for (const sampler of sequence.samplers) this.#user.freeSampler(sequence, sampler);
      sequence.beginAgain(rows);
    }
    this.queue.push(sequence);
    sequence.request.trace?.phase('queue');
    this.#user.notify();
  }

  /**
   * The engine lost its memory. What has begun is queued again, once: with what the tiers have of it, and its answers
   * go on where they stopped. What only waits goes on waiting.
   *
   * @returns those that had been begun again before
   */
  retryLost(): Sequence[] {
    const begun = [...this.active, ...this.queue.filter(({ paused }) => paused.length > 0)];
    const lost = new Set(this.#beginning === undefined ? begun : [...begun, this.#beginning]);
    const retried = [...lost].filter(({ retries }) => retries < RETRIES_MAX);
    for (const sequence of retried) this.#retry(sequence);
    return [...lost].filter((sequence) => !retried.includes(sequence));
  }

  #retry(sequence: Sequence): void {
    sequence.retries++;
    this.#retries++;
    sequence.samplers.clear();
    sequence.paused = sequence.paused.map((answer) => ({ ...answer, sampler: undefined }));
    if (!this.active.has(sequence)) return;
    // Answers that have not begun are drawn again.
    for (const { run, rows, ...answer } of sequence.isPrefilled ? sequence.branches : []) {
      const saved = this.#cache.recover(run, run.tokens.subarray(0, Math.max(rows, run.length)));
      sequence.paused.push({ ...answer, sampler: undefined, saved });
    }
    const rows = sequence.run?.length ?? 0;
    this.#endWork(sequence);
    if (!sequence.isPrefilled) sequence.beginAgain(rows);
    this.queue.push(sequence);
  }

  #endPause(sequence: Sequence): void {
    for (const { saved } of sequence.paused.splice(0)) this.#cache.endSetAside(saved);
  }

  /** Rows to make room for, for a sequence of `rows` tokens that may become `rowsMax`. */
  #rowsAtFirst(rows: number, rowsMax: number): number {
    // Growing needs the old and the new memory at once; where that could not be had, all is reserved at once.
    const canGrow = 2 * rowsMax <= this.#cache.tokensMax;
    return canGrow ? Math.min(rowsMax, rows + ANSWER_ROWS) : rowsMax;
  }

  /** Prepares to blend what the run lacks. @returns false when there is no device memory for it now. */
  async #blend(sequence: Sequence, { run }: OpenedRun): Promise<boolean> {
    const { order } = sequence.documents;
    const { prompt, prefetch } = sequence;
    const placed = order?.segments.filter(({ end }) => end > run.length) ?? [];
    const [first] = placed;
    if (order === undefined || first === undefined) {
      sequence.exactEnd = prompt.length;
      return true;
    }
    const scratch = await this.#cache.scratch(first.segment.namespace, scratchTokens(prompt.length, order));
    if (scratch === undefined) return false;
    sequence.exactEnd = Math.max(run.length, first.start);
    // The last passage is left to be blended.
    const hiddenEnd = Math.min(run.length + (prefetch?.hiddenTokens ?? 0), placed.at(-1)!.start);
    sequence.hiddenEnd = Math.max(sequence.exactEnd, hiddenEnd);
    sequence.blending = new Blending({
      cache: this.#cache,
      engine: this.#engine,
      prompt,
      order,
      run,
      scratch,
      prefetch,
      tileTokens: () => this.#user.tileTokens(prompt.length),
    });
    return true;
  }

  /** Gives back what a sequence holds. Its prompt's run stays warm. */
  leave(sequence: Sequence): void {
    if (!this.#takeFromQueue(sequence) && !this.active.has(sequence)) return;
    this.#endWork(sequence);
    this.#endPause(sequence);
    for (const sampler of sequence.samplers) this.#user.freeSampler(sequence, sampler);
    clearTimeout(sequence.alarm);
    this.#policy.tenants.left(sequence.tenant);
  }

  /** @returns false when it is not there, since it failed meanwhile. */
  #takeFromQueue(sequence: Sequence): boolean {
    const at = this.queue.indexOf(sequence);
    if (at >= 0) this.queue.splice(at, 1);
    return at >= 0;
  }

  /** Gives back the place of an active sequence, and what it holds on the device. */
  #endWork(sequence: Sequence): void {
    this.active.delete(sequence);
    this.refund(sequence);
    if (sequence.blendSteps === undefined) sequence.blending?.drop();
    else void sequence.blendSteps.return([]);
    this.endPrefetch(sequence);
    for (const { run } of sequence.branches.splice(0)) {
      if (run !== sequence.run) this.#cache.discard(run);
    }
    if (sequence.run !== undefined) this.#cache.release(sequence.run);
    sequence.run = undefined;
  }

  endPrefetch(sequence: Sequence): void {
    if (sequence.prefetch !== undefined) this.#cache.endPrefetch(sequence.prefetch);
    sequence.prefetch = undefined;
  }

  /** The engine worked for a sequence. */
  charge(sequence: Sequence, ms: number): void {
    if (!this.active.has(sequence)) return;
    const prepaidMs = Math.min(sequence.prepaidMs, ms);
    sequence.prepaidMs -= prepaidMs;
    this.#policy.tenants.charge(sequence.tenant, ms - prepaidMs);
  }

  /** Its tenant gets back what was charged and not spent. */
  refund(sequence: Sequence): void {
    if (sequence.prepaidMs === 0) return;
    this.#policy.tenants.charge(sequence.tenant, -sequence.prepaidMs);
    sequence.prepaidMs = 0;
  }
}

export function noMemory(what: string, param?: string): RadixkvError {
  return new RadixkvError('device_memory_full', `no device memory ${what}`, {
    retryAfterS: 1,
    ...(param !== undefined && { param }),
  });
}
