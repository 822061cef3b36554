/**
 * What each tenant may still ask for this minute: requests, and prompt tokens. Kept in memory, so a restart fills
 * every bucket.
 */
import { RadixkvError } from '../errors.js';
import type { Tenant } from './tenant.js';
import { TokenBucket } from './token-bucket.js';

/** What is limited, in the words of messages and headers. */
export const BUDGETED = ['requests', 'tokens'] as const;
export type Budgeted = (typeof BUDGETED)[number];

export interface BudgetReading {
  readonly limit: number;
  readonly remaining: number;
  /** Milliseconds until all of it may be used again. */
  readonly resetMs: number;
}

export class Budgets {
  readonly #now: () => number;
  readonly #buckets: Readonly<Record<Budgeted, Map<string, TokenBucket>>> = {
    requests: new Map(),
    tokens: new Map(),
  };

  /** @param now Milliseconds of a clock that never goes back. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /**
   * @throws RadixkvError `rate_limit_exceeded`; `prompt_over_rate_limit` for more than a minute ever gives
   */
  charge(tenant: Tenant, what: Budgeted, amount: number): void {
    const bucket = this.#bucket(tenant, what);
    const waitMs = bucket?.take(amount, this.#now()) ?? 'taken';
    if (bucket === undefined || waitMs === 'taken') return;
    const limit = `${bucket.perMinute} ${what === 'tokens' ? 'prompt tokens' : what} a minute`;
    if (waitMs === Number.POSITIVE_INFINITY) {
      throw new RadixkvError(
        'prompt_over_rate_limit',
        `The prompt has ${amount} tokens; this key may use ${limit}.`,
      );
    }
    throw new RadixkvError('rate_limit_exceeded', `This key may use ${limit}.`, {
      retryAfterS: Math.max(1, Math.ceil(waitMs / 1000)),
    });
  }

  /** Undefined where there is no limit. */
  read(tenant: Tenant, what: Budgeted): BudgetReading | undefined {
    const bucket = this.#bucket(tenant, what);
    if (bucket === undefined) return undefined;
    const nowMs = this.#now();
    return {
      limit: bucket.perMinute,
      remaining: bucket.remaining(nowMs),
      resetMs: bucket.fullInMs(nowMs),
    };
  }

  #bucket(tenant: Tenant, what: Budgeted): TokenBucket | undefined {
    const buckets = this.#buckets[what];
    const perMinute = what === 'requests' ? tenant.requestsPerMinute : tenant.tokensPerMinute;
    const before = buckets.get(tenant.name);
    if (before?.perMinute === perMinute) return before;
    if (perMinute === undefined) {
      buckets.delete(tenant.name);
      return undefined;
    }
    const nowMs = this.#now();
    const bucket = before?.resized(perMinute, nowMs) ?? new TokenBucket(perMinute, nowMs);
    buckets.set(tenant.name, bucket);
    return bucket;
  }
}
