/**
 * The scheduler's decisions: who begins next, who gives way, and how long a prefill tile may be. It computes nothing
 * and keeps no request; what it knows is what the engine's work has taken, and what each tenant had of it.
 *
 * Who waits begins in this order:
 * 1. by `priority`, the lowest number first (strictly: a lower priority waits as long as there is a higher one);
 * 2. what has begun and was preempted, the earliest first;
 * 3. by tenant, the one first that had least (fair-share.ts);
 * 4. what is due, the most urgent first: it waited longer than the patience, or its deadline is near;
 * 5. with the longest cached prefix, so that it is used before it is evicted;
 * 6. in the order of arrival.
 */
import { FairShare } from './fair-share.js';
import { PrefillCosts } from './prefill-costs.js';

export interface PolicyLimits {
  /** Requests that compute at the same time, and prompt and answer tokens of them. */
  readonly maxActive: number;
  readonly maxActiveTokens: number;
  /** How long a request may be overtaken by later ones of its tenant that have more in the cache. */
  readonly patienceMs: number;
  /** Between two tokens of an answer, where a prefill goes on beside it. */
  readonly tpotTargetMs: number;
  /** Prompt tokens computed in one run of the engine. */
  readonly tileTokens: number;
}

/** A request as far as the policy knows it. Times in milliseconds, of one clock. */
export interface Scheduled {
  readonly tenant: string;
  /** Lower is more important. */
  readonly priority: number;
  readonly arrivedAt: number;
  /** When its first token is wanted at the latest; undefined: it can wait. */
  readonly deadlineAt: number | undefined;
  /** Of the prompt, and of answers so far. */
  readonly tokens: number;
}

export interface Waiting extends Scheduled {
  /** It was under way, and preempted. */
  readonly hasBegun: boolean;
  /** Asked only where it matters. */
  cachedTokens(): number;
}

/** A shorter tile takes hardly less time. A multiple of it is. */
export const TILE_STEP_TOKENS = 16;

export class SchedulingPolicy {
  readonly tenants = new FairShare();
  readonly prefillCosts = new PrefillCosts();
  readonly #limits: PolicyLimits;

  constructor(limits: PolicyLimits) {
    this.#limits = limits;
  }

  /** Which of the waiting requests is to begin next. */
  next<R extends Waiting>(waiting: readonly R[], now: number): R | undefined {
    let first: R | undefined;
    for (const request of waiting) {
      if (first === undefined || this.#isBefore(request, first, now)) first = request;
    }
    return first;
  }

  /** Whether there is a place for a request beside those that compute. */
  hasPlace(request: Scheduled, active: readonly Scheduled[]): boolean {
    const { maxActive, maxActiveTokens } = this.#limits;
    const tokens = active.reduce((sum, other) => sum + other.tokens, request.tokens);
    return active.length === 0 || (active.length < maxActive && tokens <= maxActiveTokens);
  }

  /**
   * Which of the active requests gives way: the least important one, the latest of these.
   *
   * @param waiting for whom it gives way; only a less important one does. Undefined: for others that compute.
   */
  victim<R extends Scheduled>(active: Iterable<R>, waiting?: Scheduled): R | undefined {
    const others = [...active].filter(({ priority }) => waiting === undefined || priority > waiting.priority);
    return others.toSorted((a, b) => a.priority - b.priority || a.arrivedAt - b.arrivedAt).at(-1);
  }

  /** Those that compute, the most important first, as they began. */
  ordered<R extends Scheduled>(active: Iterable<R>): R[] {
    return [...active].toSorted((a, b) => a.priority - b.priority);
  }

  /**
   * Tokens of a prefill tile from row `start` on. Beside answers that take `decodeMs` a step it may fill up the time
   * between two tokens, and take as long as the step itself however tight that is, so that prompts get on too.
   *
   * @param decodeMs undefined: nobody waits for the tile
   */
  tileTokens(start: number, decodeMs: number | undefined): number {
    const { tileTokens, tpotTargetMs } = this.#limits;
    if (decodeMs === undefined) return tileTokens;
    const ms = Math.max(tpotTargetMs - decodeMs, decodeMs);
    const steps = Math.floor(this.prefillCosts.tokensWithin(ms, start) / TILE_STEP_TOKENS);
    return Math.min(tileTokens, Math.max(1, steps) * TILE_STEP_TOKENS);
  }

  #isBefore(a: Waiting, b: Waiting, now: number): boolean {
    if (a.priority !== b.priority) return a.priority < b.priority;
    if (a.hasBegun !== b.hasBegun) return a.hasBegun;
    if (a.hasBegun) return a.arrivedAt < b.arrivedAt;
    const servedMs = this.tenants.servedMs(a.tenant) - this.tenants.servedMs(b.tenant);
    if (servedMs !== 0) return servedMs < 0;
    const [dueA, dueB] = [this.#dueAt(a), this.#dueAt(b)];
    if (dueA <= now || dueB <= now) return dueA < dueB;
    const cached = a.cachedTokens() - b.cachedTokens();
    return cached === 0 ? a.arrivedAt < b.arrivedAt : cached > 0;
  }

  /** When a request may not be overtaken any more. */
  #dueAt(request: Waiting): number {
    const patientUntil = request.arrivedAt + this.#limits.patienceMs;
    if (request.deadlineAt === undefined) return patientUntil;
    const tokens = request.tokens - request.cachedTokens();
    return Math.min(
      patientUntil,
      request.deadlineAt - this.prefillCosts.predict({ start: request.tokens - tokens, tokens }),
    );
  }
}
