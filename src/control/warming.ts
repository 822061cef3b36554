/**
 * Computes prompts ahead of time, so that the first request that needs them hits: jobs of several prompts, worked off
 * one after another by requests that everyone else goes before.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../errno.js';
import { type ErrorCode, RadixkvError } from '../errors.js';
import { type CompletionService, DEFAULT_CACHE, GREEDY, tokensOf } from '../serving/completion.js';

export interface WarmLimits {
  /** Jobs that are not done yet. */
  readonly jobsMax: number;
  /** Jobs that are done and can still be asked about. */
  readonly doneJobsMax: number;
}

export const DEFAULT_WARM_LIMITS: WarmLimits = { jobsMax: 64, doneJobsMax: 256 };

export interface WarmFailure {
  /** Of the prompt in the job. */
  readonly index: number;
  readonly code: ErrorCode;
  readonly message: string;
}

export interface WarmReading {
  readonly id: string;
  readonly status: 'queued' | 'running' | 'done' | 'cancelled';
  readonly createdAtMs: number;
  readonly prompts: number;
  /** Prompts that are computed, or that failed. */
  readonly donePrompts: number;
  /** Of the prompts that are done. */
  readonly cachedTokens: number;
  readonly computedTokens: number;
  readonly failures: readonly WarmFailure[];
}

/** After all requests that say nothing of their priority. */
const PRIORITY = 100;

/** Before a prompt that found no place in the queue is tried again. */
const RETRY_MS = 250;

/** Whose a job is, and in which part of the cache it computes. */
export interface WarmPlace {
  readonly owner: string;
  readonly namespace: string;
}

interface Job extends WarmReading, WarmPlace {
  readonly tokens: readonly Int32Array[];
  readonly aborter: AbortController;
  readonly failures: WarmFailure[];
  status: WarmReading['status'];
  donePrompts: number;
  cachedTokens: number;
  computedTokens: number;
}

export class Warming {
  readonly #service: CompletionService;
  readonly #limits: WarmLimits;
  readonly #clock: { now(): number };
  /** In the order of their creation. */
  readonly #jobs = new Map<string, Job>();
  #working: Promise<void> | undefined;

  constructor(options: {
    readonly service: CompletionService;
    readonly clock: { now(): number };
    readonly limits?: Partial<WarmLimits>;
  }) {
    this.#service = options.service;
    this.#clock = options.clock;
    this.#limits = { ...DEFAULT_WARM_LIMITS, ...options.limits };
  }

  /** @throws RadixkvError `queue_full`. */
  create({ owner, namespace }: WarmPlace, tokens: readonly Int32Array[]): WarmReading {
    const waiting = [...this.#jobs.values()].filter(isUnderWay);
    if (waiting.length >= this.#limits.jobsMax) {
      throw new RadixkvError('queue_full', `${waiting.length} jobs are waiting already`, { retryAfterS: 10 });
    }
    const job: Job = {
      id: `warm_${randomUUID().replaceAll('-', '')}`,
      status: 'queued',
      createdAtMs: this.#clock.now(),
      owner,
      namespace,
      tokens,
      prompts: tokens.length,
      donePrompts: 0,
      cachedTokens: 0,
      computedTokens: 0,
      failures: [],
      aborter: new AbortController(),
    };
    this.#jobs.set(job.id, job);
    this.#forgetOld();
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
    });
    return readingOf(job);
  }

  /** Undefined when the tenant has no such job, or it was done too long ago. */
  get(owner: string, id: string): WarmReading | undefined {
    const job = this.#jobOf(owner, id);
    return job && readingOf(job);
  }

  /** Ends a job; what it computed stays. A job that is done stays so. */
  cancel(owner: string, id: string): WarmReading | undefined {
    const job = this.#jobOf(owner, id);
    if (job === undefined) return undefined;
    if (isUnderWay(job)) job.status = 'cancelled';
    job.aborter.abort();
    return readingOf(job);
  }

  /** Computes one prompt now, as its tenant's next request. @throws RadixkvError as a completion would. */
  async computed(place: WarmPlace, tokens: Int32Array): Promise<void> {
    const aborter = new AbortController();
    for await (const _ of this.#begin({ id: 'pin', ...place, aborter }, tokens, 0));
  }

  /** Cancels all jobs. */
  async close(): Promise<void> {
    for (const job of this.#jobs.values()) this.cancel(job.owner, job.id);
    await this.#working;
  }

  async #work(): Promise<void> {
    for (let job = this.#next(); job !== undefined; job = this.#next()) {
      job.status = 'running';
      for (const [index, tokens] of job.tokens.entries()) {
        if (job.aborter.signal.aborted) break;
        await this.#compute(job, index, tokens);
      }
      if (!job.aborter.signal.aborted) job.status = 'done';
    }
  }

  async #compute(job: Job, index: number, tokens: Int32Array): Promise<void> {
    try {
      for await (const event of this.#begin(job, tokens, PRIORITY)) {
        if (event.type !== 'end') continue;
        job.cachedTokens += tokensOf(event.usage.cachedTokens) + tokensOf(event.usage.blendedTokens);
        job.computedTokens += event.usage.computedTokens;
      }
      if (!job.aborter.signal.aborted) job.donePrompts++;
    } catch (error) {
      if (!(error instanceof RadixkvError)) throw error;
      if (error.code === 'queue_full') {
        await sleep(RETRY_MS, undefined, { signal: job.aborter.signal }).catch(() => {});
        if (!job.aborter.signal.aborted) await this.#compute(job, index, tokens);
        return;
      }
      job.donePrompts++;
      job.failures.push({ index, code: error.code, message: messageOf(error) });
    }
  }

  /** One token of answer is drawn, since the last token of a prompt is always computed. */
  #begin(
    { id, owner, namespace, aborter }: Pick<Job, 'id' | 'owner' | 'namespace' | 'aborter'>,
    tokens: Int32Array,
    priority: number,
  ) {
    return this.#service.complete({
      id,
      prompt: { kind: 'tokens', tokens: [...tokens] },
      promptField: 'prompt',
      tenant: owner,
      namespace,
      n: 1,
      maxTokens: 1,
      stop: [],
      cache: { ...DEFAULT_CACHE, mode: 'exact' },
      priority,
      deadlineMs: undefined,
      sampling: GREEDY,
      signal: aborter.signal,
    });
  }

  #next(): Job | undefined {
    return [...this.#jobs.values()].find(({ status }) => status === 'queued');
  }

  #jobOf(owner: string, id: string): Job | undefined {
    const job = this.#jobs.get(id);
    return job?.owner === owner ? job : undefined;
  }

  #forgetOld(): void {
    const done = [...this.#jobs.values()].filter((job) => !isUnderWay(job));
    const excess = Math.max(0, done.length - this.#limits.doneJobsMax);
    for (const { id } of done.slice(0, excess)) this.#jobs.delete(id);
  }
}

function isUnderWay({ status }: Pick<Job, 'status'>): boolean {
  return status === 'queued' || status === 'running';
}

function readingOf(job: Job): WarmReading {
  const { id, status, createdAtMs, prompts, donePrompts, cachedTokens, computedTokens } = job;
  const failures = [...job.failures];
  return { id, status, createdAtMs, prompts, donePrompts, cachedTokens, computedTokens, failures };
}
