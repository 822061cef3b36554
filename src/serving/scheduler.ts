/**
 * Has the engine compute one prefill tile, and one decode step of all answers, in turn. Whose turn it is, the policy
 * says (policy.ts); who waits and who computes is kept in places.ts.
 *
 * Life of a sequence: queued (and loaded from disk) → opened (its cached prefix is in a run) → prefilled tile by tile →
 * decoded → ended; it may be aborted between any two steps, and gives back everything it holds when it leaves its place,
 * however it ends. Where passages are reused, the tiles behind the first passage are those of a `Blending`.
 *
 * - A decode step of all running answers follows every tile, so that no stream stalls behind a long prompt.
 * - Where device memory is short, or a more important request comes, another one gives way: it is queued again, and its
 *   answers go on later where they stopped, with their rows from host memory (cache/set-aside.ts).
 * - A queued sequence whose prompt begins like one that is being prefilled waits for it: a shared new prefix is
 *   computed once.
 * - What a prompt has on disk is read while it is queued and others compute; it is opened when that is done. When the
 *   engine has nothing else to do, one with passages is opened at once, and computed from its beginning: that is better
 *   than any reuse, and free as long as it would wait (the loading controller of CacheBlend, EuroSys 2025, §5.1).
 * - When the engine fails, what has begun is begun again once it is there again, its answers where they stopped.
 * - Passages that are wanted ahead of time are computed when nothing else is to do, and now and then even so.
 * - When nothing else is to do, rows that decode made are computed again by prefill, so that answers can be reused.
 */
import type { Run } from '../cache/device-runs.js';
import type { KvCache } from '../cache/kv-cache.js';
import type { Engine } from '../engine/engine.js';
import type { SampledToken } from '../engine/sampler.js';
import { RadixkvError } from '../errors.js';
import type { Blending } from './blending.js';
import { Decoder } from './decoder.js';
import type { PassageTask } from './passage-task.js';
import { noMemory, type PlaceLimits, Places } from './places.js';
import { type PolicyLimits, SchedulingPolicy } from './policy.js';
import { type Branch, isBehind, type Sequence } from './sequence.js';

export type SchedulerLimits = PolicyLimits & PlaceLimits;

/** Rows settled at once: few, since a new request waits for them. */
const SETTLE_TOKENS = 64;

/** While requests are computed, one tile of a passage that is wanted ahead of time follows so many steps. */
const STEPS_PER_PASSAGE_TILE = 16;

export function shuttingDown(): RadixkvError {
  return new RadixkvError('shutting_down', 'the server is shutting down', { retryAfterS: 1 });
}

export class Scheduler {
  readonly #cache: KvCache;
  readonly #engine: Engine;
  readonly #limits: SchedulerLimits;
  readonly #vocab: number;
  readonly #decoder: Decoder<Branch>;
  readonly #policy: SchedulingPolicy;
  readonly #places: Places;
  readonly #passages = new Set<PassageTask>();
  #stepsSincePassage = 0;
  #nextSampler = 0;
  #decodeMs = 0;
  #wake: (() => void) | undefined;
  /** Something happened since the last step began. */
  #isNotified = false;
  #isClosed = false;
  #isCut = false;
  #isIdle = false;
  /** One function, so that a signal that many requests share has it once. */
  readonly #onAbort = () => this.#notify();
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
    this.#places = new Places({
      ...options,
      policy: this.#policy,
      user: {
        notify: () => this.#notify(),
        guard: (sequence, step) => this.#guard(sequence, step),
        freeSampler: (sequence, sampler) => this.#freeSampler(sequence, sampler),
        createSampler: (sequence, index, drawn) => this.#createSampler(sequence, index, drawn),
        tileTokens: (start) => this.#tileTokens(start),
        isSharingMemory: () => this.#passages.size > 0,
      },
    });
    this.#decoder = new Decoder({ engine: options.engine, chunkTokens: options.limits.chunkTokens });
    this.#loop = this.#run();
  }

  get queued(): number {
    return this.#places.queue.length;
  }

  get active(): number {
    return this.#places.active.size;
  }

  /** How often an active request gave way to another one, since the start. */
  get preemptions(): number {
    return this.#places.preemptions;
  }

  /** How often a request was begun again after the engine failed, since the start. */
  get retries(): number {
    return this.#places.retries;
  }

  /** @throws RadixkvError `queue_full`. */
  submit(sequence: Sequence): void {
    this.#places.join(sequence);
    const { signal, deadlineMs } = sequence.request;
    signal.addEventListener('abort', this.#onAbort, { once: true });
    if (deadlineMs !== undefined) sequence.alarm = setTimeout(() => this.#notify(), deadlineMs);
    this.#notify();
  }

  /** Computes a passage ahead of time, when its turn comes; the task tells when it is done. */
  submitPassage(task: PassageTask): void {
    this.#passages.add(task);
    task.signal.addEventListener('abort', this.#onAbort, { once: true });
    this.#notify();
  }

  /** Resolves when nothing is queued, active or left to settle. */
  idle(): Promise<void> {
    if (this.#isIdle && this.#places.queue.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /**
   * The engine lost its memory: what has begun is begun again, once, and then fails. All of it waits for `engineReady`,
   * but fails when the engine could not even start.
   */
  engineLost(reason: string, { wasReady }: { readonly wasReady: boolean }): void {
    const error = new RadixkvError('engine_failed', `the engine failed: ${reason}`, { retryAfterS: 1 });
    const failed = wasReady ? this.#places.retryLost() : [...this.#places.active, ...this.#places.queue];
    for (const sequence of failed) this.#fail(sequence, error);
    for (const task of this.#passages) task.restart();
  }

  engineReady(): void {
    this.#notify();
  }

  /** Fails what is queued or active, before the next step. @returns how many there are */
  cut(): number {
    this.#isCut = true;
    this.#notify();
    return this.queued + this.active;
  }

  /** Stops after the step under way, and fails what is queued or active. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#notify();
    await this.#loop;
    this.#failAll();
    for (const task of this.#passages) task.fail(shuttingDown());
    this.#passages.clear();
  }

  /** Between two steps only: within one, a run may be in use. */
  #failAll(): void {
    const error = shuttingDown();
    for (const sequence of [...this.#places.queue, ...this.#places.active]) this.#fail(sequence, error);
  }

  async #run(): Promise<void> {
    while (!this.#isClosed) {
      this.#isNotified = false;
      const didWork = await this.#step();
      if (didWork || this.#isNotified || this.#isClosed) continue;
      this.#isIdle = this.#places.queue.length === 0;
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
    this.#places.loadQueued();
    await this.#places.admit();
    const prefilling = this.#policy.ordered(this.#places.active).find((sequence) => sequence.canCompute);
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
    if (this.#isCut) this.#failAll();
    for (const sequence of [...this.#places.queue, ...this.#places.active]) {
      if (sequence.isAborted) {
        sequence.end();
        this.#places.leave(sequence);
      } else if (sequence.isLate) {
        const { deadlineMs } = sequence.request;
        this.#fail(
          sequence,
          new RadixkvError('deadline_exceeded', `there was no first token within ${deadlineMs} ms`, {
            param: 'deadline_ms',
          }),
        );
      }
    }
    for (const task of this.#passages) {
      if (!task.signal.aborted) continue;
      task.abort(this.#cache);
      this.#passages.delete(task);
    }
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
    if (sequence.blendSteps === undefined) {
      sequence.blendBegan();
      sequence.blendSteps = blending.compute(() => this.#createSamplers(sequence));
    }
    const startedAt = performance.now();
    const step = await sequence.blendSteps.next();
    this.#places.charge(sequence, performance.now() - startedAt);
    sequence.request.trace?.step('blend', startedAt);
    if (step.done === true) {
      this.#places.endPrefetch(sequence);
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
    const startedAt = performance.now();
    const tokens = run.tokens.slice(start, end);
    const call = { op: 'prefill', run: run.id, start, tokens, samplers } as const;
    const { result, ms } = await this.#engine.call<'prefill'>(call);
    sequence.request.trace?.step('tile', startedAt, tokens.length);
    this.#policy.prefillCosts.measured({ start, tokens: tokens.length }, ms);
    this.#places.charge(sequence, ms);
    this.#cache.prefilled(tokens.length, ms);
    sequence.regrets(await this.#cache.commit(run, end));
    return result.sampled;
  }

  /** Begins the answers of a sequence with the first token of each. */
  async #answer(sequence: Sequence, sampled: readonly SampledToken[]): Promise<void> {
    if (!this.#places.active.has(sequence)) return;
    for (const [index, sampler] of [...sequence.samplers].entries()) {
      const choice = sequence.choices[index]!;
      const { token: nextToken } = sampled[index]!;
      const branch = await this.#branch({ sequence, choice, sampler, nextToken, rows: 0 });
      // The engine may have been lost meanwhile: the sequence has given back what it had.
      if (!this.#places.active.has(sequence)) return;
      sequence.branches.push(branch);
    }
    // Not before there is memory for every answer, so that a request without it fails before its first text.
    sequence.firstToken();
    this.#places.refund(sequence);
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
    const isStreaming = [...this.#places.active].some(({ branches }) => branches.length > 0);
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
      const victim = this.#policy.victim([...this.#places.active].filter((other) => other !== sequence));
      if (victim === undefined) throw noMemory(`for ${sequence.request.n} answers`, 'n');
      await this.#places.preempt(victim);
    }
  }

  /** The next token of every running answer. @returns how many there were */
  async #decodeStep(): Promise<number> {
    for (const sequence of this.#policy.ordered(this.#places.active)) {
      await this.#guard(sequence, () => this.#growRuns(sequence));
    }
    const branches = [...this.#places.active].flatMap((sequence) =>
      sequence.branches.filter((branch) => !isBehind(branch)),
    );
    if (branches.length === 0) return 0;
    const isRunning = ({ sequence }: Branch) => this.#places.active.has(sequence) && !sequence.isAborted;
    const startedAt = performance.now();
    await this.#decoder.step(branches, isRunning, (branch, token) => {
      const { sequence } = branch;
      // It may have failed meanwhile, by another of its answers too.
      if (!this.#places.active.has(sequence)) return;
      if (token instanceof RadixkvError) this.#fail(sequence, token);
      else this.#extend(branch, token);
    });
    this.#decodeMs = performance.now() - startedAt;
    for (const { sequence } of branches) this.#places.charge(sequence, this.#decodeMs / branches.length);
    return branches.length;
  }

  /** Room for one more row of each answer, for which the least important sequence gives way, maybe this one itself. */
  async #growRuns(sequence: Sequence): Promise<void> {
    for (const { run } of sequence.branches) {
      while (this.#places.active.has(sequence) && !(await this.#cache.grow(run))) {
        if (this.#places.active.size === 1 && this.#passages.size === 0)
          throw noMemory('to continue the answer');
        await this.#places.preempt(this.#policy.victim(this.#places.active)!);
      }
    }
  }

  #complete(sequence: Sequence): void {
    sequence.end();
    this.#places.leave(sequence);
  }

  #fail(sequence: Sequence, error: Error): void {
    sequence.events.end(error);
    this.#places.leave(sequence);
  }

  /** Runs a step of one sequence; an operating error ends that sequence alone. */
  async #guard<T>(sequence: Sequence, step: () => Promise<T>): Promise<T | undefined> {
    const { retries } = sequence;
    try {
      return await step();
    } catch (error) {
      if (!(error instanceof RadixkvError)) throw error;
      // What failed with the engine is begun again already.
      if (sequence.retries === retries) this.#fail(sequence, error);
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

  /** @param drawn tokens that the answer has already */
  #createSampler(sequence: Sequence, index: number, drawn?: Int32Array): number {
    const { sampling } = sequence.request;
    const sampler = this.#nextSampler++;
    // Each answer draws its own numbers; the seed makes all of them repeatable.
    const seed = sampling.seed === undefined ? undefined : sampling.seed + index;
    const params = { ...sampling, seed };
    sequence.samplers.add(sampler);
    const vocab = this.#vocab;
    this.#engine
      .call({ op: 'createSampler', sampler, params, vocab, ...(drawn && { drawn }) })
      .catch(() => {});
    return sampler;
  }

  #freeSampler(sequence: Sequence, sampler: number): void {
    sequence.samplers.delete(sampler);
    this.#engine.call({ op: 'freeSampler', sampler }).catch(() => {});
  }
}
