/**
 * What requests come to, in whole numbers, so that sums are exact in whatever order they are added.
 *
 * Invariant, of one request and of any sum: prompt = Σ cached + Σ blended + computed.
 */
import { bucketOf, type HistogramReading } from '../histogram.js';
import { NO_TOKENS, type PromptUsage, type TierTokens, tokensOf, type Usage } from './completion.js';

/** `refused`: a 4xx answer, 429 included. `failed`: a 5xx answer, or an error after the stream began. */
export const OUTCOMES = ['completed', 'aborted', 'failed', 'refused'] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** How much of a prompt was reused: nothing, less than half of it, or more. */
export const HIT_CLASSES = ['none', 'partial', 'most'] as const;
export type HitClass = (typeof HIT_CLASSES)[number];

/** From which share of a prompt on most of it was reused. */
export const MOST_SHARE = 1 / 2;

/** Of the time to the first token, in seconds. */
export const TTFT_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60] as const;

/** One for each bound, and one for what is above all of them. */
const TTFT_BUCKETS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13] as const;
type TtftBucket = (typeof TTFT_BUCKETS)[number];

type TtftName = `ttft_${HitClass}_${TtftBucket | 'us'}`;

/** Requests by time to the first token, and the sum of these times in microseconds. */
const TTFT_NAMES: readonly TtftName[] = HIT_CLASSES.flatMap((hit) =>
  [...TTFT_BUCKETS, 'us' as const].map((what): TtftName => `ttft_${hit}_${what}`),
);

const PLAIN_NAMES = [
  ...OUTCOMES,
  'promptTokens',
  'cachedDeviceTokens',
  'cachedHostTokens',
  'cachedDiskTokens',
  'cachedRemoteTokens',
  'blendedDeviceTokens',
  'blendedHostTokens',
  'blendedDiskTokens',
  'blendedRemoteTokens',
  'computedTokens',
  'completionTokens',
  /** Prefill that reused tokens would have taken, at the speed that was measured then, in microseconds. */
  'savedUs',
  /** Reused tokens that are not in `savedUs`, since no speed had been measured. */
  'unpricedTokens',
  /** Tokens that were computed only since they had been evicted, in whole chunks, by the tier that had them last. */
  'regretHostTokens',
  'regretDiskTokens',
] as const;

type CountName = (typeof PLAIN_NAMES)[number] | TtftName;
export const COUNT_NAMES: readonly CountName[] = [...PLAIN_NAMES, ...TTFT_NAMES];

export type Counts = Record<CountName, number>;

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- one of each name
const ZERO = Object.fromEntries(COUNT_NAMES.map((name) => [name, 0])) as Counts;

export function noCounts(): Counts {
  return { ...ZERO };
}

/** What is known of a request at its end, beside its outcome. */
export interface Known {
  readonly usage: Usage;
  /** Absent: it had no first token. */
  readonly ttftMs?: number | undefined;
  readonly regretted?: TierTokens | undefined;
}

/** Of one request. `known` is undefined where the service reported nothing. */
export function countsOf(
  outcome: Outcome,
  known: Known | undefined,
  prefillTokensPerS: number | undefined,
): Counts {
  const counts = noCounts();
  counts[outcome] = 1;
  if (known === undefined) return counts;
  const { usage, ttftMs, regretted = NO_TOKENS } = known;
  const { cachedTokens: cached, blendedTokens: blended } = usage;
  const reused = tokensOf(cached) + tokensOf(blended);
  counts.promptTokens = usage.promptTokens;
  counts.cachedDeviceTokens = cached.device;
  counts.cachedHostTokens = cached.host;
  counts.cachedDiskTokens = cached.disk;
  counts.cachedRemoteTokens = cached.remote;
  counts.blendedDeviceTokens = blended.device;
  counts.blendedHostTokens = blended.host;
  counts.blendedDiskTokens = blended.disk;
  counts.blendedRemoteTokens = blended.remote;
  counts.computedTokens = usage.computedTokens;
  counts.completionTokens = usage.completionTokens;
  counts.regretHostTokens = regretted.host;
  counts.regretDiskTokens = regretted.disk;
  if (prefillTokensPerS === undefined) counts.unpricedTokens = reused;
  else counts.savedUs = Math.round((reused * 1e6) / prefillTokensPerS);
  if (ttftMs !== undefined) countTtft(counts, hitClassOf(usage), ttftMs);
  return counts;
}

function countTtft(counts: Counts, hit: HitClass, ttftMs: number): void {
  const bucket = TTFT_BUCKETS[bucketOf(TTFT_BOUNDS, ttftMs / 1000)]!;
  counts[`ttft_${hit}_${bucket}`]++;
  counts[`ttft_${hit}_us`] += Math.round(ttftMs * 1000);
}

export function hitClassOf({ promptTokens, computedTokens }: PromptUsage): HitClass {
  const reused = promptTokens - computedTokens;
  if (reused === 0) return 'none';
  return reused < MOST_SHARE * promptTokens ? 'partial' : 'most';
}

/** Times to the first token of a class, in seconds. */
export function ttftOf(counts: Counts, hit: HitClass): HistogramReading {
  return {
    bounds: TTFT_BOUNDS,
    counts: TTFT_BUCKETS.map((bucket) => counts[`ttft_${hit}_${bucket}`]),
    sum: counts[`ttft_${hit}_us`] / 1e6,
  };
}

/** Tokens computed only since they had been evicted; nobody knows that of the device and the remote tier. */
export function regretOf(counts: Counts): Pick<TierTokens, 'host' | 'disk'> {
  return { host: counts.regretHostTokens, disk: counts.regretDiskTokens };
}

/** Adds `more` to `counts`, which it changes. Called several times a request. */
export function addCounts(counts: Counts, more: Counts): void {
  addAll(counts, more);
}

/** Walks the fields as they lie in the object, which takes a twentieth of the time of asking for each by its name. */
function addAll<Name extends string>(sums: Record<Name, number>, more: Readonly<Record<Name, number>>): void {
  for (const name in more) {
    const value = more[name];
    if (value !== 0) sums[name] += value;
  }
}

/** Of all outcomes. */
export function requestsOf(counts: Counts): number {
  return OUTCOMES.reduce((sum, outcome) => sum + counts[outcome], 0);
}

export function cachedOf(counts: Counts): TierTokens {
  return {
    device: counts.cachedDeviceTokens,
    host: counts.cachedHostTokens,
    disk: counts.cachedDiskTokens,
    remote: counts.cachedRemoteTokens,
  };
}

export function blendedOf(counts: Counts): TierTokens {
  return {
    device: counts.blendedDeviceTokens,
    host: counts.blendedHostTokens,
    disk: counts.blendedDiskTokens,
    remote: counts.blendedRemoteTokens,
  };
}

/** Of all tiers. */
export function cachedTokensOf(counts: Counts): number {
  return tokensOf(cachedOf(counts));
}

/** Of all tiers. */
export function blendedTokensOf(counts: Counts): number {
  return tokensOf(blendedOf(counts));
}

/** Share of prompt tokens whose KV was reused; undefined without prompt tokens. */
export function hitRateOf(counts: Counts): number | undefined {
  const reused = cachedTokensOf(counts) + blendedTokensOf(counts);
  return counts.promptTokens === 0 ? undefined : reused / counts.promptTokens;
}

/** The same without blended tokens: what prefix reuse alone gave. */
export function exactHitRateOf(counts: Counts): number | undefined {
  return counts.promptTokens === 0 ? undefined : cachedTokensOf(counts) / counts.promptTokens;
}

/** Seconds of prefill that reuse spared; undefined when tokens were reused and the price of none is known. */
export function savedSecondsOf(counts: Counts): number | undefined {
  const reused = cachedTokensOf(counts) + blendedTokensOf(counts);
  return reused > 0 && counts.unpricedTokens === reused ? undefined : counts.savedUs / 1e6;
}
