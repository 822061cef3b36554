/**
 * A rate limit: a bucket that holds a minute's worth, is full at first, and fills up steadily.
 *
 * Invariant: 0 ≤ what is in it ≤ `perMinute`. Knows no clock.
 */
import assert from 'node:assert/strict';

const MINUTE_MS = 60_000;

export class TokenBucket {
  readonly perMinute: number;
  #level: number;
  #atMs: number;

  constructor(perMinute: number, nowMs: number) {
    assert(perMinute > 0);
    this.perMinute = perMinute;
    this.#level = perMinute;
    this.#atMs = nowMs;
  }

  /** Takes `amount` out if that is in it. Else milliseconds until it will be: `Infinity` when it never is. */
  take(amount: number, nowMs: number): 'taken' | number {
    this.#fill(nowMs);
    if (amount <= this.#level) {
      this.#level -= amount;
      return 'taken';
    }
    if (amount > this.perMinute) return Number.POSITIVE_INFINITY;
    return ((amount - this.#level) * MINUTE_MS) / this.perMinute;
  }

  /** What could be taken, in whole units. */
  remaining(nowMs: number): number {
    this.#fill(nowMs);
    return Math.floor(this.#level);
  }

  /** Milliseconds until it is full. */
  fullInMs(nowMs: number): number {
    this.#fill(nowMs);
    return ((this.perMinute - this.#level) * MINUTE_MS) / this.perMinute;
  }

  /** A bucket of another size, as empty as this one: no change of a limit gives a tenant more at once. */
  resized(perMinute: number, nowMs: number): TokenBucket {
    const other = new TokenBucket(perMinute, nowMs);
    other.#level = Math.max(0, perMinute - (this.perMinute - this.remaining(nowMs)));
    return other;
  }

  #fill(nowMs: number): void {
    const gained = (Math.max(0, nowMs - this.#atMs) * this.perMinute) / MINUTE_MS;
    this.#level = Math.min(this.perMinute, this.#level + gained);
    this.#atMs = nowMs;
  }
}
