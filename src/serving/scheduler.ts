/**
 * Has the engine compute one prefill tile, and one decode step of all answers, in turn. Whose turn it is, the policy
 * says (policy.ts).
 *
 * Life of a sequence: queued (and loaded from disk) → opened (its cached prefix is in a run) → prefilled tile by tile →
 * decoded → ended; it may be aborted between any two steps, and gives back everything it holds in `#leave`, however it
 * ends. Where passages are reused, the tiles behind the first passage are those of a `Blending`.
 *
 * - A decode step of all running answers follows every tile, so that no stream stalls behind a long prompt.
 * - Where device memory is short, or a more important request comes, another one gives way: it is queued again, and its
 *   answers go on later where they stopped, with their rows from host memory (cache/set-aside.ts).
 * - A queued sequence whose prompt begins like one that is being prefilled waits for it: a shared new prefix is
 *   computed once.
 * - What a prompt has on disk is read while it is queued and others compute; it is opened when that is done. When the
 *   engine has nothing else to do, one with passages is opened at once, and computed from its beginning: that is better
 *   than any reuse, and free as long as it would wait (the loading controller of CacheBlend, EuroSys 2025, §5.1).
 * - Passages that are wanted ahead of time are computed when nothing else is to do, and now and then even so.
 * - When nothing else is to do, rows that decode made are computed again by prefill, so that answers can be reused.
 */
import { commonPrefix, type Run } from '../cache/device-runs.js';
import type { KvCache, OpenedRun, Prefetch } from '../cache/kv-cache.js';
import type { Engine } from '../engine/engine.js';
import type { SampledToken } from '../engine/sampler.js';
import { RadixkvError } from '../errors.js';
import { Blending, scratchTokens } from './blending.js';
import { Decoder } from './decoder.js';
import type { PassageTask } from './passage-task.js';
import { type PolicyLimits, SchedulingPolicy } from './policy.js';
import { type Branch, isBehind, type Sequence } from './sequence.js';

export interface SchedulerLimits extends PolicyLimits {
  readonly chunkTokens: number;
  /** Requests that may wait, beside the places of those that compute, and their prompt tokens. */
  readonly maxQueue: number;
  readonly maxQueueTokens: number;
}

/** Rows reserved beyond the prompt at first; more are added as an answer grows. */
const ANSWER_ROWS = 256;

/** Rows settled at once: few, since a new request waits for them. */
const SETTLE_TOKENS = 64;

/** Fewer tokens are not worth a tile of their own. */
const HIDDEN_TOKENS_MIN = 16;

/** While requests are computed, one tile of a passage that is wanted ahead of time follows so many steps. */
const STEPS_PER_PASSAGE_TILE = 16;

export class Scheduler {
  readonly #cache: KvCache;
  readonly #engine: Engine;
  readonly #limits: SchedulerLimits;
  readonly #vocab: number;
  readonly #decoder: Decoder<Branch>;
  readonly #policy: SchedulingPolicy;
  readonly #queue: Sequence[] = [];
  readonly #active = new Set<Sequence>();
  readonly #passages = new Set<PassageTask>();
  #stepsSincePassage = 0;
  #nextSampler = 0;
  #decodeMs = 0;
  #preemptions = 0;
  #wake: (() => void) | undefined;
  /** Something happened since the last step began. */
  #isNotified = false;
  #isClosed = false;
  #isIdle = false;
  readonly #loop: Promise<void>;
  #idleWaiters: (() => void)[] = [];

  constructor(options: {
    readonly cache: KvCache;
    readonly engine: Engine;
    readonly limits: SchedulerLimits;
    /** Tokens that may be drawn. */
    readonly vocab: number;
  }) {
    this.#cache = options.cache;
    this.#engine = options.engine;
    this.#limits = options.limits;
    this.#policy = new SchedulingPolicy(options.limits);
    this.#vocab = options.vocab;
    this.#decoder = new Decoder({ engine: options.engine, chunkTokens: options.limits.chunkTokens });
    this.#loop = this.#run();
  }

  get queued(): number {
    return this.#queue.length;
  }

  get active(): number {
    return this.#active.size;
  }

  /** How often an active request gave way to another one, since the start. */
  get preemptions(): number {
    return this.#preemptions;
  }

  /** @throws RadixkvError `queue_full`. */
  submit(sequence: Sequence): void {
    const { maxActive, maxQueue, maxQueueTokens } = this.#limits;
    const waiting = this.#queue.length;
    const tokens = this.#queue.reduce((sum, { prompt }) => sum + prompt.length, sequence.prompt.length);
    if (waiting + this.#active.size >= maxActive + maxQueue || (waiting > 0 && tokens > maxQueueTokens)) {
      throw new RadixkvError('queue_full', `${waiting} requests are waiting already`, {
        retryAfterS: 1 + Math.ceil(waiting / maxActive),
      });
    }
    this.#queue.push(sequence);
    this.#policy.tenants.came(sequence.tenant);
    const { signal, deadlineMs } = sequence.request;
    signal.addEventListener('abort', () => this.#notify(), { once: true });
    if (deadlineMs !== undefined) sequence.alarm = setTimeout(() => this.#notify(), deadlineMs);
    this.#notify();
  }

  /** Computes a passage ahead of time, when its turn comes; the task tells when it is done. */
  submitPassage(task: PassageTask): void {
    this.#passages.add(task);
    task.signal.addEventListener('abort', () => this.#notify(), { once: true });
    this.#notify();
  }

  /** Resolves when nothing is queued, active or left to settle. */
  idle(): Promise<void> {
    if (this.#isIdle && this.#queue.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /**
   * The engine lost its memory: what has begun fails. What is queued waits for `engineReady`, but fails too when the
   * engine could not even start.
   */
  engineLost(reason: string, { wasReady }: { readonly wasReady: boolean }): void {
    const error = new RadixkvError('engine_failed', `the engine failed: ${reason}`, { retryAfterS: 1 });
    const lost = this.#queue.filter(({ paused }) => !wasReady || paused.length > 0);
    for (const sequence of [...this.#active, ...lost]) this.#fail(sequence, error);
    for (const task of this.#passages) task.restart();
  }

  engineReady(): void {
    this.#notify();
  }

  /** Fails what is queued or active, and stops. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const error = new RadixkvError('shutting_down', 'the server is shutting down', { retryAfterS: 1 });
    for (const sequence of [...this.#queue, ...this.#active]) this.#fail(sequence, error);
    for (const task of this.#passages) task.fail(error);
    this.#passages.clear();
    this.#notify();
    await this.#loop;
  }

  async #run(): Promise<void> {
    while (!this.#isClosed) {
      this.#isNotified = false;
      const didWork = await this.#step();
      if (didWork || this.#isNotified || this.#isClosed) continue;
      this.#isIdle = this.#queue.length === 0;
      if (this.#isIdle) for (const resolve of this.#idleWaiters.splice(0)) resolve();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#isIdle = false;
    }
  }

  #notify(): void {
    this.#isNotified = true;
    this.#wake?.();
    this.#wake = undefined;
  }

  /** Returns false when there is nothing to do until something happens. */
  async #step(): Promise<boolean> {
    this.#dropUnwanted();
    if (!this.#engine.isReady) return false;
    this.#loadQueued();
    await this.#admit();
    const prefilling = this.#policy.ordered(this.#active).find((sequence) => sequence.canCompute);
    if (prefilling !== undefined) await this.#guard(prefilling, () => this.#prefillStep(prefilling));
    const decoded = await this.#decodeStep();
    // What ended in this step left a place to whoever waits.
    const isBusy = prefilling !== undefined || decoded > 0;
    if (isBusy && ++this.#stepsSincePassage < STEPS_PER_PASSAGE_TILE) return true;
    this.#stepsSincePassage = 0;
    return (await this.#passageTile()) || isBusy || this.#settle();
  }

  /** @returns false when there is no passage to compute, or no device memory for it now. */
  async #passageTile(): Promise<boolean> {
    const [task] = this.#passages;
    if (task === undefined) return false;
    const outcome = await task.step({
      cache: this.#cache,
      engine: this.#engine,
      tileTokens: () => this.#tileTokens(0),
    });
    if (outcome === 'ended') this.#passages.delete(task);
    return outcome !== 'no memory';
  }

  #dropUnwanted(): void {
    for (const sequence of [...this.#queue, ...this.#active]) {
      if (sequence.isAborted) {
        sequence.end();
        this.#leave(sequence);
      } else if (sequence.isLate) {
        const { deadlineMs } = sequence.request;
        this.#fail(
          sequence,
          new RadixkvError(
            'deadline_exceeded',
            `the first token could not be there within ${deadlineMs} ms`,
            {
              param: 'deadline_ms',
            },
          ),
        );
      }
    }
    for (const task of this.#passages) {
      if (!task.signal.aborted) continue;
      task.abort(this.#cache);
      this.#passages.delete(task);
    }
  }

  async #admit(): Promise<void> {
    const held = new Set<Sequence>();
    while (this.#engine.isReady && !this.#isClosed) {
      const next = this.#policy.next(
        this.#queue.filter((sequence) => !held.has(sequence) && this.#canBegin(sequence)),
        performance.now(),
      );
      if (next === undefined) return;
      held.add(next);
      const began = await this.#guard(next, () => this.#begin(next));
      if (began === false) return;
    }
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
        this.#policy.hasPlace(sequence, [...this.#active]) &&
        (sequence.paused.length > 0 ? await this.#resume(sequence) : await this.#open(sequence));
      if (isOpen) return true;
      const victim = this.#policy.victim(this.#active, sequence);
      if (victim === undefined) return false;
      await this.#preempt(victim);
    }
  }

  /** Whether there is time to prefill where a prompt begins, while its passages are being loaded. */
  #canBeginEarly({ isLoading, prefetch, documents }: Sequence): boolean {
    const hidden = prefetch?.hiddenTokens ?? 0;
    return (
      isLoading && documents.order !== undefined && this.#active.size === 0 && hidden >= HIDDEN_TOKENS_MIN
    );
  }

  /** Begins to load what the disk has of queued prompts, the first ones first, as far as there is memory for it. */
  #loadQueued(): void {
    for (const sequence of this.#queue) {
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
    this.#notify();
  }

  /** Whether a running prefill will soon hold a chunk or more of this prompt beyond what is cached now. */
  #waitsForPrefix(sequence: Sequence): boolean {
    const { prompt, request } = sequence;
    let cached: number | undefined;
    for (const other of this.#active) {
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
    const opened = await this.#cache.open(request.namespace, prompt, rows, {
      rowsMax,
      prefetch: sequence.prefetch,
      accepts: sequence.accepts,
      isPrivate: request.cache.mode === 'off',
    });
    if (opened === undefined) return false;
    const canBegin = await this.#blend(sequence, opened);
    if (!canBegin) {
      this.#cache.release(opened.run);
      return false;
    }
    if (!this.#takeFromQueue(sequence)) {
      this.#cache.release(opened.run);
      return true;
    }
    if (sequence.blending === undefined) this.#endPrefetch(sequence);
    sequence.run = opened.run;
    // What a sequence computed itself before it gave way is not what it found.
    if (!sequence.hasBegun) Object.assign(sequence, { cached: opened.cached, continued: opened.blended });
    sequence.opened();
    this.#active.add(sequence);
    const { length: start } = opened.run;
    const ms = this.#policy.prefillCosts.predict({ start, tokens: prompt.length - start });
    sequence.prepaidMs = ms;
    this.#policy.tenants.charge(sequence.tenant, ms);
    return true;
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
      if (this.#active.size > 0 || this.#passages.size > 0) return false;
      throw noMemory('to continue the answer');
    }
    if (!this.#takeFromQueue(sequence)) {
      for (const run of runs) this.#cache.discard(run);
      return true;
    }
    sequence.branches = paused.map(({ saved, ...answer }, i) => {
      return { ...answer, run: runs[i]!, rows: saved.tokens.length };
    });
    sequence.run = runs[0];
    this.#endPause(sequence);
    this.#active.add(sequence);
    return true;
  }

  /** An active sequence gives way to others, and is queued again. */
  async #preempt(sequence: Sequence): Promise<void> {
    await this.#guard(sequence, async () => {
      for (const { run, rows, ...answer } of sequence.branches) {
        const tokens = run.tokens.subarray(0, Math.max(rows, run.length));
        const saved = await this.#cache.setAside(run, tokens);
        if (this.#active.has(sequence)) sequence.paused.push({ ...answer, saved });
        else this.#cache.endSetAside(saved);
      }
    });
    if (!this.#active.has(sequence)) return;
    this.#preemptions++;
    await sequence.blendSteps?.return([]);
    this.#endWork(sequence);
    if (!sequence.isPrefilled) {
      for (const sampler of sequence.samplers) this.#freeSampler(sequence, sampler);
      sequence.beginAgain();
    }
    this.#queue.push(sequence);
    this.#notify();
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
      tileTokens: () => this.#tileTokens(prompt.length),
    });
    return true;
  }

  #prefillStep(sequence: Sequence): Promise<void> {
    const { blending, exactEnd, hiddenEnd, isLoaded, branches } = sequence;
    const behind = branches.find(isBehind);
    if (behind !== undefined) return this.#refillTile(behind);
    const { length } = sequence.run!;
    if (blending === undefined || length < exactEnd) return this.#prefillTile(sequence, exactEnd);
    // Short tiles, so that it stops soon when what it waits for is there.
    if (!isLoaded) return this.#prefillTile(sequence, Math.min(hiddenEnd, length + this.#limits.chunkTokens));
    return this.#blendStep(sequence, blending);
  }

  async #blendStep(sequence: Sequence, blending: Blending): Promise<void> {
    sequence.blendSteps ??= blending.compute(() => this.#createSamplers(sequence));
    const startedAt = performance.now();
    const step = await sequence.blendSteps.next();
    this.#charge(sequence, performance.now() - startedAt);
    if (step.done === true) {
      this.#endPrefetch(sequence);
      await this.#answer(sequence, step.value);
    }
  }

  async #prefillTile(sequence: Sequence, until: number): Promise<void> {
    const { prompt } = sequence;
    const run = sequence.run!;
    const start = run.length;
    const end = Math.min(start + this.#tileTokens(start), until);
    const samplers = end === prompt.length ? this.#createSamplers(sequence) : [];
    const sampled = await this.#computeTile(sequence, run, { end, samplers });
    if (end === prompt.length) await this.#answer(sequence, sampled);
  }

  /** Rows of an answer that could not be kept while it was paused. */
  async #refillTile({ sequence, run, rows }: Branch): Promise<void> {
    const end = Math.min(run.length + this.#tileTokens(run.length), rows);
    await this.#computeTile(sequence, run, { end, samplers: [] });
  }

  /** Computes the rows `[run.length, end)`, whose tokens the run has. */
  async #computeTile(
    sequence: Sequence,
    run: Run,
    { end, samplers }: { readonly end: number; readonly samplers: readonly number[] },
  ): Promise<readonly SampledToken[]> {
    const start = run.length;
    const tokens = run.tokens.slice(start, end);
    const call = { op: 'prefill', run: run.id, start, tokens, samplers } as const;
    const { result, ms } = await this.#engine.call<'prefill'>(call);
    this.#policy.prefillCosts.measured({ start, tokens: tokens.length }, ms);
    this.#charge(sequence, ms);
    this.#cache.prefilled(tokens.length, ms);
    await this.#cache.commit(run, end);
    return result.sampled;
  }

  /** The engine worked for a sequence. */
  #charge(sequence: Sequence, ms: number): void {
    if (!this.#active.has(sequence)) return;
    const prepaidMs = Math.min(sequence.prepaidMs, ms);
    sequence.prepaidMs -= prepaidMs;
    this.#policy.tenants.charge(sequence.tenant, ms - prepaidMs);
  }

  /** Its tenant gets back what was charged and not spent. */
  #refund(sequence: Sequence): void {
    if (sequence.prepaidMs === 0) return;
    this.#policy.tenants.charge(sequence.tenant, -sequence.prepaidMs);
    sequence.prepaidMs = 0;
  }

  /** Begins the answers of a sequence with the first token of each. */
  async #answer(sequence: Sequence, sampled: readonly SampledToken[]): Promise<void> {
    if (!this.#active.has(sequence)) return;
    for (const [index, sampler] of [...sequence.samplers].entries()) {
      const choice = sequence.choices[index]!;
      const { token: nextToken } = sampled[index]!;
      sequence.branches.push(await this.#branch({ sequence, choice, sampler, nextToken, rows: 0 }));
    }
    // Not before there is memory for every answer, so that a request without it fails before its first text.
    sequence.firstToken();
    this.#refund(sequence);
    for (const [index, branch] of [...sequence.branches].entries()) {
      this.#extend(branch, sampled[index]!);
    }
  }

  /** Takes the next token of an answer; the last token of the last answer completes the sequence. */
  #extend(branch: Branch, sampled: SampledToken): void {
    const { sequence, choice, run, sampler } = branch;
    branch.nextToken = sampled.token;
    choice.push(sampled);
    if (!choice.isFinished) return;
    sequence.branches = sequence.branches.filter((other) => other !== branch);
    this.#freeSampler(sequence, sampler);
    if (run !== sequence.run) this.#cache.discard(run);
    if (sequence.branches.length === 0) this.#complete(sequence);
  }

  /** From row `start` on. What is computed is the same, however long tiles are. */
  #tileTokens(start: number): number {
    const isStreaming = [...this.#active].some(({ branches }) => branches.length > 0);
    return this.#policy.tileTokens(start, isStreaming ? this.#decodeMs : undefined);
  }

  /** The first answer continues the prompt's run, every other one a copy of it. */
  async #branch(parts: Omit<Branch, 'run'>): Promise<Branch> {
    const { sequence } = parts;
    const run = sequence.run!;
    if (sequence.branches.length === 0) return { ...parts, run };
    for (;;) {
      const copy = await this.#cache.fork(run, sequence.prompt.length + sequence.answerTokensMax);
      if (copy !== undefined) return { ...parts, run: copy };
      const victim = this.#policy.victim([...this.#active].filter((other) => other !== sequence));
      if (victim === undefined) throw noMemory(`for ${sequence.request.n} answers`, 'n');
      await this.#preempt(victim);
    }
  }

  /** The next token of every running answer. @returns how many there were */
  async #decodeStep(): Promise<number> {
    for (const sequence of this.#policy.ordered(this.#active)) {
      await this.#guard(sequence, () => this.#growRuns(sequence));
    }
    const branches = [...this.#active].flatMap((sequence) =>
      sequence.branches.filter((branch) => !isBehind(branch)),
    );
    if (branches.length === 0) return 0;
    const isRunning = ({ sequence }: Branch) => this.#active.has(sequence) && !sequence.isAborted;
    const startedAt = performance.now();
    await this.#decoder.step(branches, isRunning, (branch, token) => {
      const { sequence } = branch;
      // It may have failed meanwhile, by another of its answers too.
      if (!this.#active.has(sequence)) return;
      if (token instanceof RadixkvError) this.#fail(sequence, token);
      else this.#extend(branch, token);
    });
    this.#decodeMs = performance.now() - startedAt;
    for (const { sequence } of branches) this.#charge(sequence, this.#decodeMs / branches.length);
    return branches.length;
  }

  /** Room for one more row of each answer, for which the least important sequence gives way, maybe this one itself. */
  async #growRuns(sequence: Sequence): Promise<void> {
    for (const { run } of sequence.branches) {
      while (this.#active.has(sequence) && !(await this.#cache.grow(run))) {
        if (this.#active.size === 1 && this.#passages.size === 0) throw noMemory('to continue the answer');
        await this.#preempt(this.#policy.victim(this.#active)!);
      }
    }
  }

  #complete(sequence: Sequence): void {
    sequence.end();
    this.#leave(sequence);
  }

  /** Gives back what a sequence holds. Its prompt's run stays warm. */
  #leave(sequence: Sequence): void {
    if (!this.#takeFromQueue(sequence) && !this.#active.has(sequence)) return;
    this.#endWork(sequence);
    this.#endPause(sequence);
    for (const sampler of sequence.samplers) this.#freeSampler(sequence, sampler);
    clearTimeout(sequence.alarm);
    this.#policy.tenants.left(sequence.tenant);
  }

  /** @returns false when it is not there, since it failed meanwhile. */
  #takeFromQueue(sequence: Sequence): boolean {
    const at = this.#queue.indexOf(sequence);
    if (at >= 0) this.#queue.splice(at, 1);
    return at >= 0;
  }

  /** Gives back the place of an active sequence, and what it holds on the device. */
  #endWork(sequence: Sequence): void {
    this.#active.delete(sequence);
    this.#refund(sequence);
    if (sequence.blendSteps === undefined) sequence.blending?.drop();
    else void sequence.blendSteps.return([]);
    this.#endPrefetch(sequence);
    for (const { run } of sequence.branches.splice(0)) {
      if (run !== sequence.run) this.#cache.discard(run);
    }
    if (sequence.run !== undefined) this.#cache.release(sequence.run);
    sequence.run = undefined;
  }

  #endPrefetch(sequence: Sequence): void {
    if (sequence.prefetch !== undefined) this.#cache.endPrefetch(sequence.prefetch);
    sequence.prefetch = undefined;
  }

  #fail(sequence: Sequence, error: Error): void {
    sequence.events.end(error);
    this.#leave(sequence);
  }

  /** Runs a step of one sequence; an operating error ends that sequence alone. */
  async #guard<T>(sequence: Sequence, step: () => Promise<T>): Promise<T | undefined> {
    try {
      return await step();
    } catch (error) {
      if (!(error instanceof RadixkvError)) throw error;
      this.#fail(sequence, error);
      return undefined;
    }
  }

  /** One tile of the rows that decode made in a warm run. */
  async #settle(): Promise<boolean> {
    const run: Run | undefined = this.#cache.unsettled();
    if (run === undefined) return false;
    const start = run.settled;
    const end = Math.min(start + SETTLE_TOKENS, run.length);
    const tokens = run.tokens.slice(start, end);
    try {
      await this.#engine.call<'prefill'>({ op: 'prefill', run: run.id, start, tokens, samplers: [] });
      await this.#cache.commit(run, end);
    } catch (error) {
      if (!(error instanceof RadixkvError)) throw error;
      this.#cache.discard(run);
    }
    return true;
  }

  #createSamplers(sequence: Sequence): number[] {
    return sequence.choices.map((_, index) => this.#createSampler(sequence, index));
  }

  #createSampler(sequence: Sequence, index: number): number {
    const { sampling } = sequence.request;
    const sampler = this.#nextSampler++;
    // Each answer draws its own numbers; the seed makes all of them repeatable.
    const seed = sampling.seed === undefined ? undefined : sampling.seed + index;
    const params = { ...sampling, seed };
    sequence.samplers.add(sampler);
    this.#engine.call({ op: 'createSampler', sampler, params, vocab: this.#vocab }).catch(() => {});
    return sampler;
  }

  #freeSampler(sequence: Sequence, sampler: number): void {
    sequence.samplers.delete(sampler);
    this.#engine.call({ op: 'freeSampler', sampler }).catch(() => {});
  }
}

function noMemory(what: string, param?: string): RadixkvError {
  return new RadixkvError('device_memory_full', `no device memory ${what}`, {
    retryAfterS: 1,
    ...(param !== undefined && { param }),
  });
}
