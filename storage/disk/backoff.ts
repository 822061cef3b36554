/** How long to leave alone what keeps failing: twice as long after each failure, from one second to a minute. */
import type { Clock } from '../clock.js';

const PAUSE_MS_MIN = 1000;
const PAUSE_MS_MAX = 60_000;

export class Backoff {
  readonly #clock: Clock;
  #pauseMs = 0;
  #sinceMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get isPaused(): boolean {
    const pausedMs = this.#clock.now() - this.#sinceMs;
    return pausedMs >= 0 && pausedMs < this.#pauseMs; // a clock that jumped back pauses nothing
  }

  failed(): void {
    if (this.isPaused) return; // it was running when the pause began
    this.#pauseMs = Math.min(Math.max(2 * this.#pauseMs, PAUSE_MS_MIN), PAUSE_MS_MAX);
    this.#sinceMs = this.#clock.now();
  }

  succeeded(): void {
    this.#pauseMs = 0;
  }
}
