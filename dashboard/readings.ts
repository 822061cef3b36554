/**
 * What the API says of the cache, in its own words, and the numbers that follow from it. `radixkv top` shows the same
 * ones. Knows no DOM.
 *
 * Only fields that are shown are named here.
 */

export const TIERS = ['device', 'host', 'disk', 'remote'] as const;
export type Tier = (typeof TIERS)[number];

/** Reused tokens of a prompt by the tier that had them. */
interface TierTokens {
  readonly cached_tokens: number;
  readonly blended_tokens: number;
  /** Computed only since they had been evicted from this tier; null where nobody knows. */
  readonly regret_tokens: number | null;
}

/** How much of a prompt was reused: nothing, less than half of it, or more. */
export const HITS = ['none', 'partial', 'most'] as const;
export type Hit = (typeof HITS)[number];

/** Times to the first token, in milliseconds. */
export interface FirstTokens {
  readonly requests: number;
  readonly mean: number | null;
  readonly p50: number | null;
  readonly p95: number | null;
}

interface Percentiles {
  readonly p50: number | null;
  readonly p90: number | null;
}

/** Of the chunks that a tier evicted to make room. */
export interface Evicted {
  readonly chunks: number;
  readonly age_seconds: Percentiles;
  readonly uses: Percentiles;
}

interface TierState extends TierTokens {
  readonly bytes: number | null;
  readonly capacity_bytes: number | null;
  readonly evicted: Evicted | null;
}

export interface Counts {
  readonly requests: Readonly<Record<'completed' | 'aborted' | 'failed' | 'refused', number>>;
  readonly prompt_tokens: number;
  readonly computed_tokens: number;
  readonly completion_tokens: number;
  readonly hit_rate: number | null;
  readonly saved_prefill_seconds: number | null;
  readonly by_tier: Readonly<Record<Tier, TierTokens>>;
  readonly ttft_ms: Readonly<Record<Hit, FirstTokens>>;
}

/** `GET /v1/cache/stats?window=…`. */
export interface WindowStats extends Counts {
  readonly since: string;
}

/** `GET /v1/cache/stats`. */
export interface ProcessStats extends Counts {
  readonly since: string;
  readonly by_tier: Readonly<Record<Tier, TierState>>;
  readonly radix: { readonly nodes: number | null; readonly chunks: number | null };
}

/** `GET /v1/cache/stats/history`. */
export interface HistoryStats {
  readonly step_seconds: number;
  readonly points: readonly (Counts & { readonly start: string })[];
}

/** One of `GET /v1/cache/top`. */
export interface Saver {
  readonly tenant: string;
  readonly tokens_saved: number;
  readonly hits: number;
  readonly used_at: number;
  readonly text: string | null;
  /** Of a document. */
  readonly id?: string;
  /** Of a prefix: tokens before it. */
  readonly start?: number;
}

export interface Savers {
  readonly data: readonly Saver[];
}

/** Where prompt tokens come from, each as a share of all; null without prompt tokens. Reused and blended go together. */
export type HitShares = Readonly<Record<Tier, number | null>>;

/** Prompt tokens that a tier gave. */
export function reusedTokens(
  { by_tier: byTier }: { readonly by_tier: Readonly<Record<Tier, Omit<TierTokens, 'regret_tokens'>>> },
  tier: Tier,
): number {
  return byTier[tier].cached_tokens + byTier[tier].blended_tokens;
}

/** They add up to the hit rate. */
export function hitShares(
  counts: Parameters<typeof reusedTokens>[0] & Pick<Counts, 'prompt_tokens'>,
): HitShares {
  const share = (tier: Tier) =>
    counts.prompt_tokens === 0 ? null : reusedTokens(counts, tier) / counts.prompt_tokens;
  return { device: share('device'), host: share('host'), disk: share('disk'), remote: share('remote') };
}

export interface Rates {
  readonly promptTokensPerS: number;
  readonly completionTokensPerS: number;
  readonly requestsPerS: number;
}

/** Per second, from the beginning of a window to `nowMs` by the server's clock. */
export function freshRates(stats: Omit<WindowStats, 'by_tier' | 'ttft_ms'>, nowMs: number): Rates {
  const elapsedS = Math.max(1, (nowMs - Date.parse(stats.since)) / 1000);
  const requests = Object.values(stats.requests).reduce((sum, each) => sum + each, 0);
  return {
    promptTokensPerS: stats.prompt_tokens / elapsedS,
    completionTokensPerS: stats.completion_tokens / elapsedS,
    requestsPerS: requests / elapsedS,
  };
}

/** Samples of `GET /metrics` by name and labels, as they stand there: `radixkv_tier_bytes{tier="host"}`. */
export function parseMetrics(text: string): ReadonlyMap<string, number> {
  const samples = [...text.matchAll(/^(radixkv_\w+(?:\{[^}\n]*\})?) (\S+)$/gm)];
  return new Map(samples.map(([, name, value]) => [name!, Number(value)]));
}

/** Mean of a histogram since the start, whatever its labels; undefined before its first value. */
export function meanOf(samples: ReadonlyMap<string, number>, histogram: string): number | undefined {
  const sumOf = (name: string) =>
    [...samples]
      .filter(([sample]) => sample === name || sample.startsWith(`${name}{`))
      .reduce((sum, [, value]) => sum + value, 0);
  const observed = sumOf(`${histogram}_count`);
  return observed === 0 ? undefined : sumOf(`${histogram}_sum`) / observed;
}
