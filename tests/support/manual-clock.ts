/** A clock that stands still until it is set. */
import type { Clock } from '#storage';

export class ManualClock implements Clock {
  nowMs: number;

  constructor(nowMs = 1_000_000) {
    this.nowMs = nowMs;
  }

  now(): number {
    return this.nowMs;
  }
}
