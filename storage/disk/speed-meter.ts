/**
 * Bytes a second while something is being moved, as who waits for it sees it: bytes over the time in which at least
 * one transfer ran, averaged with a weight that halves with every `HALF_LIFE_BYTES`.
 */

/** Monotonic milliseconds, of any origin. */
export type Stopwatch = () => number;

const HALF_LIFE_BYTES = 64 << 20;

export class SpeedMeter {
  readonly #now: Stopwatch;
  #running = 0;
  #sinceMs = 0;
  #bytes = 0;
  #ms = 0;
  /** Since something was moved last. */
  #newMs = 0;

  constructor(now: Stopwatch) {
    this.#now = now;
  }

  /** Undefined before anything was moved. */
  get bytesPerSecond(): number | undefined {
    return this.#ms > 0 ? (this.#bytes / this.#ms) * 1000 : undefined;
  }

  /** Measures a transfer; `bytesOf` says how much its result moved. */
  async measure<T>(transfer: () => Promise<T>, bytesOf: (result: T) => number): Promise<T> {
    this.#advance();
    this.#running++;
    try {
      const result = await transfer();
      this.#advance();
      this.#moved(bytesOf(result));
      return result;
    } finally {
      this.#advance();
      this.#running--;
    }
  }

  #moved(bytes: number): void {
    const kept = 0.5 ** (bytes / HALF_LIFE_BYTES);
    this.#bytes = this.#bytes * kept + bytes;
    this.#ms = this.#ms * kept + this.#newMs;
    this.#newMs = 0;
  }

  #advance(): void {
    const nowMs = this.#now();
    if (this.#running > 0) this.#newMs += nowMs - this.#sinceMs;
    this.#sinceMs = nowMs;
  }
}
