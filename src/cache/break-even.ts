/**
 * When loading KV beats computing it again: both speeds as they were measured last.
 *
 * A load is worth it when it takes at most as long as the prefill of its tokens. Without a measurement of one of them
 * the answer is yes, since only a load tells. A tier that lost is tried again now and then, so that one bad moment
 * (a busy volume) does not shut it out for good. Later tokens of a long prompt take longer to prefill than the mean,
 * so the estimate errs towards computing. Knows no tiers: there is one of these for each.
 */
import { hiddenRatio } from '#blend';

/** Weight of the newest measurement in the moving averages. */
const NEWEST_WEIGHT = 0.2;

/** Shorter tiles say little about the speed of prefill. */
const PREFILL_TOKENS_MIN = 16;

/** A tier that is too slow is used once in so many times, to measure it again. */
const RETRY_EVERY = 32;

export interface Speeds {
  readonly prefillTokensPerS: number | undefined;
  readonly loadBytesPerS: number | undefined;
}

export class BreakEven {
  readonly #isOn: boolean;
  #msPerToken: number | undefined;
  #msPerByte: number | undefined;
  #refused = 0;

  /** With `off` every load is worth it. */
  constructor(mode: 'auto' | 'off') {
    this.#isOn = mode === 'auto';
  }

  /** The engine prefilled `tokens` tokens. */
  prefilled(tokens: number, ms: number): void {
    if (tokens >= PREFILL_TOKENS_MIN) this.#msPerToken = averaged(this.#msPerToken, ms / tokens);
  }

  /** The tier gave `bytes` bytes, latency included. */
  loaded(bytes: number, ms: number): void {
    this.#msPerByte = averaged(this.#msPerByte, ms / bytes);
  }

  /** Whether to load `bytes` bytes now rather than prefill the `tokens` tokens they stand for. */
  decide(bytes: number, tokens: number): boolean {
    if (this.isWorth(bytes, tokens)) return true;
    this.#refused++;
    return this.#refused % RETRY_EVERY === 0;
  }

  /** As `decide`, only asked: never the try of a tier that lost. */
  isWorth(bytes: number, tokens: number): boolean {
    if (!this.#isOn || this.#msPerToken === undefined || this.#msPerByte === undefined) return true;
    return bytes * this.#msPerByte <= tokens * this.#msPerToken;
  }

  /** What the prefill of so many tokens takes; undefined before the first measurement. */
  prefillMs(tokens: number): number | undefined {
    return this.#msPerToken === undefined ? undefined : tokens * this.#msPerToken;
  }

  /** Of the `tokens` tokens that `bytes` bytes stand for, how many are prefilled in the time these take to load. */
  hiddenTokens(bytes: number, tokens: number): number {
    if (tokens === 0 || this.#msPerToken === undefined || this.#msPerByte === undefined) return 0;
    const loadMsPerToken = (bytes * this.#msPerByte) / tokens;
    const ratio = hiddenRatio({ loadMsPerToken, recomputeMsPerToken: this.#msPerToken, ratioMin: 0 });
    return Math.floor(tokens * ratio);
  }

  /** Undefined before the first measurement. */
  reading(): Speeds {
    return { prefillTokensPerS: perS(this.#msPerToken), loadBytesPerS: perS(this.#msPerByte) };
  }
}

function perS(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : 1000 / ms;
}

function averaged(mean: number | undefined, newest: number): number {
  return mean === undefined ? newest : mean + NEWEST_WEIGHT * (newest - mean);
}
