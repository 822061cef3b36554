/**
 * A server on a virtual clock: the real policy, the scheduler's order of things, and an engine that is a table of
 * costs. Hours of traffic take a second, and everything that was decided is on record.
 */
import {
  type PolicyLimits,
  type Scheduled,
  SchedulingPolicy,
  type Waiting,
} from '../../src/serving/policy.js';

export interface SimulatedRequest {
  readonly tenant?: string;
  readonly priority?: number;
  readonly arrivedAt: number;
  /** Milliseconds after its arrival. */
  readonly deadlineMs?: number;
  readonly promptTokens: number;
  /** Of the prompt. */
  readonly cachedTokens?: number;
  readonly answerTokens: number;
}

export interface SimulatedEngine {
  /** Rows that fit. */
  readonly memoryTokens: number;
  readonly prefillMs: (tile: { readonly start: number; readonly tokens: number }) => number;
  readonly decodeMs: (contexts: readonly number[]) => number;
}

/** What became of a request; times in milliseconds of the virtual clock. */
export class Job implements Waiting {
  readonly tenant: string;
  readonly priority: number;
  readonly arrivedAt: number;
  readonly deadlineAt: number | undefined;
  readonly asked: SimulatedRequest;
  beganAt: number | undefined;
  firstTokenAt: number | undefined;
  endedAt: number | undefined;
  isLate = false;
  preemptions = 0;
  /** Of the engine's time, its share. */
  servedMs = 0;
  prefilled: number;
  answered = 0;
  prepaidMs = 0;
  lastTokenAt: number | undefined;

  constructor(asked: SimulatedRequest) {
    this.asked = asked;
    this.tenant = asked.tenant ?? '';
    this.priority = asked.priority ?? 0;
    this.arrivedAt = asked.arrivedAt;
    this.deadlineAt = asked.deadlineMs === undefined ? undefined : asked.arrivedAt + asked.deadlineMs;
    this.prefilled = this.cachedTokens();
  }

  get tokens(): number {
    return this.asked.promptTokens + this.answered;
  }

  get rows(): number {
    return this.prefilled + this.answered;
  }

  get hasBegun(): boolean {
    return this.beganAt !== undefined;
  }

  get isPrefilled(): boolean {
    return this.prefilled >= this.asked.promptTokens;
  }

  cachedTokens(): number {
    return Math.min(this.asked.cachedTokens ?? 0, this.asked.promptTokens - 1);
  }
}

export interface Observer {
  /** A request begins, chosen among those waiting (itself included), beside those that are active. */
  readonly onBegin?: (job: Job, waiting: readonly Job[], active: readonly Job[], now: number) => void;
  /** After each step of the engine. */
  readonly onStep?: (active: readonly Job[], now: number) => void;
  /** Time between two tokens of an answer, and what the decode step itself took of it. */
  readonly onGap?: (ms: number, decodeMs: number) => void;
}

export function simulate(
  requests: readonly SimulatedRequest[],
  limits: PolicyLimits,
  engine: SimulatedEngine,
  observer: Observer = {},
): Job[] {
  const policy = new SchedulingPolicy(limits);
  const jobs = requests.map((request) => new Job(request));
  const coming = jobs.toSorted((a, b) => a.arrivedAt - b.arrivedAt);
  const waiting: Job[] = [];
  const active = new Set<Job>();
  let now = 0;
  let lastDecodeMs = 0;

  const charge = (job: Job, ms: number): void => {
    job.servedMs += ms;
    const prepaidMs = Math.min(job.prepaidMs, ms);
    job.prepaidMs -= prepaidMs;
    policy.tenants.charge(job.tenant, ms - prepaidMs);
  };
  const refund = (job: Job): void => {
    policy.tenants.charge(job.tenant, -job.prepaidMs);
    job.prepaidMs = 0;
  };
  const leave = (job: Job): void => {
    active.delete(job);
    if (waiting.includes(job)) waiting.splice(waiting.indexOf(job), 1);
    refund(job);
    policy.tenants.left(job.tenant);
    job.endedAt = now;
  };
  const preempt = (job: Job): void => {
    active.delete(job);
    refund(job);
    job.preemptions++;
    job.lastTokenAt = undefined;
    waiting.push(job);
  };
  const usedTokens = () => [...active].reduce((sum, { tokens }) => sum + tokens, 0);
  const fits = (job: Scheduled) => usedTokens() + job.tokens + 1 <= engine.memoryTokens;

  const begin = (job: Job): boolean => {
    while (!policy.hasPlace(job, [...active]) || !fits(job)) {
      const victim = policy.victim(active, job);
      if (victim === undefined) return false;
      preempt(victim);
    }
    observer.onBegin?.(job, waiting, [...active], now);
    waiting.splice(waiting.indexOf(job), 1);
    active.add(job);
    job.beganAt ??= now;
    const start = job.prefilled;
    job.prepaidMs = job.isPrefilled
      ? 0
      : policy.prefillCosts.predict({ start, tokens: job.asked.promptTokens - start });
    policy.tenants.charge(job.tenant, job.prepaidMs);
    return true;
  };

  const prefillTile = (): boolean => {
    const job = policy.ordered(active).find(({ isPrefilled }) => !isPrefilled);
    if (job === undefined) return false;
    const isStreaming = [...active].some(({ isPrefilled }) => isPrefilled);
    const start = job.prefilled;
    const most = policy.tileTokens(start, isStreaming ? lastDecodeMs : undefined);
    const tokens = Math.min(most, job.asked.promptTokens - start);
    const ms = engine.prefillMs({ start, tokens });
    policy.prefillCosts.measured({ start, tokens }, ms);
    now += ms;
    charge(job, ms);
    job.prefilled += tokens;
    if (!job.isPrefilled) return true;
    job.firstTokenAt = now;
    refund(job);
    token(job);
    return true;
  };

  const token = (job: Job, decodeMs?: number): void => {
    if (decodeMs !== undefined && job.lastTokenAt !== undefined)
      observer.onGap?.(now - job.lastTokenAt, decodeMs);
    job.lastTokenAt = now;
    if (++job.answered >= job.asked.answerTokens) leave(job);
  };

  const decodeStep = (): boolean => {
    for (const job of policy.ordered(active)) {
      while (active.has(job) && usedTokens() + active.size > engine.memoryTokens)
        preempt(policy.victim(active)!);
    }
    const decoding = [...active].filter(({ isPrefilled }) => isPrefilled);
    if (decoding.length === 0) return false;
    lastDecodeMs = engine.decodeMs(decoding.map(({ tokens }) => tokens));
    now += lastDecodeMs;
    for (const job of decoding) {
      charge(job, lastDecodeMs / decoding.length);
      token(job, lastDecodeMs);
    }
    return true;
  };

  while (coming.length > 0 || waiting.length > 0 || active.size > 0) {
    while (coming[0] !== undefined && coming[0].arrivedAt <= now) {
      const job = coming.shift()!;
      waiting.push(job);
      policy.tenants.came(job.tenant);
    }
    for (const job of [...waiting, ...active]) {
      if (job.firstTokenAt !== undefined || job.deadlineAt === undefined || now < job.deadlineAt) continue;
      job.isLate = true;
      leave(job);
    }
    for (let next = policy.next(waiting, now); next !== undefined; next = policy.next(waiting, now)) {
      if (!begin(next)) break;
    }
    const didPrefill = prefillTile();
    const didDecode = decodeStep();
    observer.onStep?.([...active], now);
    if (!didPrefill && !didDecode && active.size === 0 && waiting.length === 0)
      now = coming[0]?.arrivedAt ?? now;
  }
  return jobs;
}
