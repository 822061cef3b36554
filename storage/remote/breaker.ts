/**
 * The circuit breaker of the remote tier: who keeps failing is left alone.
 *
 * | state       | means                                           | leaves it                                        |
 * |-------------|-------------------------------------------------|--------------------------------------------------|
 * | `closed`    | it is asked                                     | `trip` → open                                    |
 * | `open`      | nobody asks it, for `pauseMs`                   | `beginProbe` → half-open                         |
 * | `half-open` | a probe asks it, in the background; nobody else | `passed` → closed; `trip` → open, for longer     |
 *
 * Pauses double from `PAUSE_MS_MIN` to `PAUSE_MS_MAX`, and are short again after it was closed for `SOUND_MS`: what
 * flaps is left alone for longer and longer. Knows no connection and no timer.
 */
import assert from 'node:assert/strict';
import type { Clock } from '../clock.js';

export type BreakerState = 'closed' | 'half-open' | 'open';

const PAUSE_MS_MIN = 250;
const PAUSE_MS_MAX = 8000;

/** A connection that held for so long is sound again. */
const SOUND_MS = 30_000;

export class Breaker {
  readonly #clock: Clock;
  readonly #onChange: (state: BreakerState, reason: string | undefined) => void;
  #state: BreakerState = 'open';
  #pauseMs = 0;
  #closedAtMs = 0;
  #trips = 0;
  #reason: string | undefined = 'not connected yet';

  /** Open, with a probe due at once. */
  constructor(options: {
    readonly clock: Clock;
    readonly onChange: (state: BreakerState, reason: string | undefined) => void;
  }) {
    this.#clock = options.clock;
    this.#onChange = options.onChange;
  }

  get state(): BreakerState {
    return this.#state;
  }

  /** Why it is not closed. */
  get reason(): string | undefined {
    return this.#reason;
  }

  /** How long it is to stay open. */
  get pauseMs(): number {
    return this.#pauseMs;
  }

  /** How often it went from closed to open. */
  get trips(): number {
    return this.#trips;
  }

  /** Something failed. @returns whether this opened it */
  trip(reason: string): boolean {
    if (this.#state === 'open') return false;
    const wasClosed = this.#state === 'closed';
    if (wasClosed) this.#trips++;
    const heldMs = this.#clock.now() - this.#closedAtMs;
    const isSoundAgain = wasClosed && heldMs >= SOUND_MS;
    const doubled = isSoundAgain ? 0 : 2 * this.#pauseMs;
    this.#pauseMs = Math.min(PAUSE_MS_MAX, Math.max(PAUSE_MS_MIN, doubled));
    this.#become('open', reason);
    return true;
  }

  /** The pause is over. Asserts that it is open. */
  beginProbe(): void {
    assert.equal(this.#state, 'open');
    this.#become('half-open', this.#reason);
  }

  /** The probe was answered. Asserts that there was one. */
  passed(): void {
    assert.equal(this.#state, 'half-open');
    this.#closedAtMs = this.#clock.now();
    this.#become('closed', undefined);
  }

  #become(state: BreakerState, reason: string | undefined): void {
    this.#state = state;
    this.#reason = reason;
    this.#onChange(state, reason);
  }
}
