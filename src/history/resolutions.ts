/**
 * How finely the past is kept: buckets of fixed sizes, aligned to the epoch, each size for a time of its own. All times
 * are milliseconds since the epoch; a bucket is `[start, start + size)`.
 *
 * Invariant: each size divides the next one, so that an aligned time has the same sum in all sizes that still keep it.
 */
import assert from 'node:assert/strict';

export interface Resolution {
  readonly sizeMs: number;
  /** So far back, and to the beginning of the bucket that this meets, it can be asked for. */
  readonly keepMs: number;
}

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** From fine to coarse. */
export const RESOLUTIONS: readonly Resolution[] = [
  { sizeMs: 10 * SECOND_MS, keepMs: HOUR_MS },
  { sizeMs: MINUTE_MS, keepMs: DAY_MS },
  { sizeMs: 10 * MINUTE_MS, keepMs: 7 * DAY_MS },
  { sizeMs: HOUR_MS, keepMs: 90 * DAY_MS },
];

/** The times that can be asked for by name, up to now. */
export const WINDOWS = {
  '1m': MINUTE_MS,
  '5m': 5 * MINUTE_MS,
  '1h': HOUR_MS,
  '24h': DAY_MS,
} as const;

/** `all`: since the first request that was written. */
export const WINDOW_NAMES = ['1m', '5m', '1h', '24h', 'all'] as const;
export type WindowName = (typeof WINDOW_NAMES)[number];

/** Points of one series. */
export const POINTS_MAX = 500;

/** Tried in turn for a series without a step. */
const DEFAULT_STEPS_MS = [MINUTE_MS, 5 * MINUTE_MS, 10 * MINUTE_MS, HOUR_MS, 6 * HOUR_MS, DAY_MS];

/** Buckets of one size at a time inside and at both ends of what is kept. */
export function bucketsMax({ sizeMs, keepMs }: Resolution): number {
  return Math.ceil(keepMs / sizeMs) + 1;
}

export function floorTo(ms: number, sizeMs: number): number {
  return Math.floor(ms / sizeMs) * sizeMs;
}

export function ceilTo(ms: number, sizeMs: number): number {
  return Math.ceil(ms / sizeMs) * sizeMs;
}

/** The first bucket that can be asked for. */
export function horizonMs({ sizeMs, keepMs }: Resolution, nowMs: number): number {
  return floorTo(nowMs - keepMs, sizeMs);
}

/** Buckets of one size whose starts are in `[startMs, endMs)`. */
export interface Span {
  readonly sizeMs: number;
  readonly startMs: number;
  readonly endMs: number;
}

/**
 * The fewest buckets that cover the last `windowMs` milliseconds: small ones up to where larger ones begin. It begins
 * with the bucket that `nowMs - windowMs` is in, of the finest size that is kept for so long.
 */
export function cover(resolutions: readonly Resolution[], windowMs: number, nowMs: number): Span[] {
  const finest = resolutions.findIndex(({ keepMs }) => keepMs >= windowMs);
  assert(finest >= 0, 'no resolution keeps so long a time');
  const spans: Span[] = [];
  const endMs = nowMs + 1;
  let startMs = floorTo(nowMs - windowMs, resolutions[finest]!.sizeMs);
  for (const [i, { sizeMs }] of resolutions.entries()) {
    if (i < finest) continue;
    const next = resolutions[i + 1];
    const turnMs = next === undefined ? endMs : Math.min(endMs, ceilTo(startMs, next.sizeMs));
    if (startMs < turnMs) spans.push({ sizeMs, startMs, endMs: turnMs });
    startMs = turnMs;
  }
  return spans;
}

/** The coarsest resolution that points of `stepMs` can be made of; undefined when there is none. */
export function resolutionFor(resolutions: readonly Resolution[], stepMs: number): Resolution | undefined {
  return resolutions.findLast(({ sizeMs }) => stepMs >= sizeMs && stepMs % sizeMs === 0);
}

/** A step that reaches back to `fromMs` and gives no more points than a series may have, or the longest. */
export function defaultStepMs(
  resolutions: readonly Resolution[],
  { fromMs, toMs, nowMs }: { readonly fromMs: number; readonly toMs: number; readonly nowMs: number },
): number {
  const fits = (stepMs: number) => {
    const resolution = resolutionFor(resolutions, stepMs);
    const isKept = resolution !== undefined && horizonMs(resolution, nowMs) <= fromMs;
    return isKept && (toMs - fromMs) / stepMs < POINTS_MAX - 1;
  };
  return DEFAULT_STEPS_MS.find(fits) ?? DAY_MS;
}
