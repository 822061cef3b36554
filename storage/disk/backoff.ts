/** How long to leave alone what keeps failing: twice as long after each failure, from one second to a maximum. */
import type { Clock } from '../clock.js';

const PAUSE_MS_MIN = 1000;
const PAUSE_MS_MAX = 60_000;

export class Backoff {
  readonly #clock: Clock;
  readonly #pauseMsMax: number;
  #pauseMs = 0;
  #sinceMs = 0;

  /** `pauseMsMax`: default a minute. */
  constructor(clock: Clock, { pauseMsMax = PAUSE_MS_MAX }: { readonly pauseMsMax?: number } = {}) {
    this.#clock = clock;
    this.#pauseMsMax = pauseMsMax;
  }

  get isPaused(): boolean {
    const pausedMs = this.#clock.now() - this.#sinceMs;
    return pausedMs >= 0 && pausedMs < this.#pauseMs; // a clock that jumped back pauses nothing
  }

  failed(): void {
    if (this.isPaused) return; // it was running when the pause began
    this.#pauseMs = Math.min(Math.max(2 * this.#pauseMs, PAUSE_MS_MIN), this.#pauseMsMax);
    this.#sinceMs = this.#clock.now();
  }

  succeeded(): void {
    this.#pauseMs = 0;
  }
}
