/**
 * What requests come to, in whole numbers, so that sums are exact in whatever order they are added.
 *
 * Invariant, of one request and of any sum: prompt = Σ cached + Σ blended + computed.
 */
import { type TierTokens, tokensOf, type Usage } from './completion.js';

/** `refused`: a 4xx answer, 429 included. `failed`: a 5xx answer, or an error after the stream began. */
export const OUTCOMES = ['completed', 'aborted', 'failed', 'refused'] as const;
export type Outcome = (typeof OUTCOMES)[number];

export const COUNT_NAMES = [
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
] as const;

export type Counts = Record<(typeof COUNT_NAMES)[number], number>;

export function noCounts(): Counts {
  return {
    completed: 0,
    aborted: 0,
    failed: 0,
    refused: 0,
    promptTokens: 0,
    cachedDeviceTokens: 0,
    cachedHostTokens: 0,
    cachedDiskTokens: 0,
    cachedRemoteTokens: 0,
    blendedDeviceTokens: 0,
    blendedHostTokens: 0,
    blendedDiskTokens: 0,
    blendedRemoteTokens: 0,
    computedTokens: 0,
    completionTokens: 0,
    savedUs: 0,
    unpricedTokens: 0,
  };
}

/** Of one request. `usage` is undefined where the service reported none. */
export function countsOf(
  outcome: Outcome,
  usage: Usage | undefined,
  prefillTokensPerS: number | undefined,
): Counts {
  const counts = noCounts();
  counts[outcome] = 1;
  if (usage === undefined) return counts;
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
  if (prefillTokensPerS === undefined) counts.unpricedTokens = reused;
  else counts.savedUs = Math.round((reused * 1e6) / prefillTokensPerS);
  return counts;
}

/** Adds `more` to `counts`, which it changes. */
export function addCounts(counts: Counts, more: Counts): void {
  for (const name of COUNT_NAMES) counts[name] += more[name];
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
