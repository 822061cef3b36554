/**
 * `/v1/cache/stats`: what requests came to. Without parameters since the process started, with the present state of the
 * cache; for a window of time, by group or in steps, over restarts. What can't be known is null, zero is zero.
 */
import { z } from 'zod';
import { BUS_KINDS, type BusBytes } from '../engine/device.js';
import { type HistogramReading, observed, quantile } from '../histogram.js';
import type { History } from '../history/history.js';
import type { Tier, TierTokens } from '../serving/completion.js';
import {
  blendedOf,
  blendedTokensOf,
  type Counts,
  cachedOf,
  cachedTokensOf,
  exactHitRateOf,
  type HitClass,
  hitRateOf,
  noCounts,
  regretOf,
  savedSecondsOf,
  ttftOf,
} from '../serving/counts.js';
import type {
  ClassReading,
  DiskReading,
  HistoryReading,
  LivesReading,
  RemoteReading,
  Statistics,
  TierReading,
} from '../serving/statistics.js';
import { requireAdminRole } from './identity.js';
import { json, type Operation, operation } from './operation.js';
import {
  type counts as countsAnswer,
  type countsByTier,
  processStatistics,
  statisticsHistory,
  windowStatistics,
} from './statistics-answers.js';
import { seriesQuery, windowQuery } from './statistics-schema.js';

/** Of any requests: one, a window, a group, a step. */
export function countsJson(counts: Counts): z.output<typeof countsAnswer> {
  return {
    requests: {
      completed: counts.completed,
      aborted: counts.aborted,
      failed: counts.failed,
      refused: counts.refused,
    },
    prompt_tokens: counts.promptTokens,
    cached_tokens: cachedTokensOf(counts),
    blended_tokens: blendedTokensOf(counts),
    computed_tokens: counts.computedTokens,
    completion_tokens: counts.completionTokens,
    hit_rate: hitRateOf(counts) ?? null,
    exact_hit_rate: exactHitRateOf(counts) ?? null,
    saved_prefill_seconds: savedSecondsOf(counts) ?? null,
    unpriced_tokens: counts.unpricedTokens,
    regret_tokens: counts.regretHostTokens + counts.regretDiskTokens,
    ttft_ms: ttftByHitJson(counts),
  };
}

function ttftByHitJson(counts: Counts) {
  const ofClass = (hit: HitClass) => ttftJson(ttftOf(counts, hit));
  return { none: ofClass('none'), partial: ofClass('partial'), most: ofClass('most') };
}

/** Of seconds, whole ones. */
function millisecondsOf(value: number | undefined): number | null {
  return value === undefined ? null : Math.round(value * 1000);
}

/** Milliseconds; null without a request. */
function ttftJson(seconds: HistogramReading) {
  const requests = observed(seconds);
  return {
    requests,
    mean: millisecondsOf(requests === 0 ? undefined : seconds.sum / requests),
    p50: millisecondsOf(quantile(seconds, 0.5)),
    p95: millisecondsOf(quantile(seconds, 0.95)),
  };
}

function tokensByTierJson(counts: Counts) {
  const [cached, blended] = [cachedOf(counts), blendedOf(counts)];
  const regret: Partial<TierTokens> = regretOf(counts);
  const tokens = (tier: Tier) => ({
    cached_tokens: cached[tier],
    blended_tokens: blended[tier],
    regret_tokens: regret[tier] ?? null,
  });
  return { device: tokens('device'), host: tokens('host'), disk: tokens('disk'), remote: tokens('remote') };
}

/** The same, and by tier. */
export function countsByTierJson(counts: Counts): z.output<typeof countsByTier> {
  return { ...countsJson(counts), by_tier: tokensByTierJson(counts) };
}

type ProcessJson = z.output<typeof processStatistics>;

function tierJson(tier: TierReading | undefined) {
  return {
    bytes: tier?.bytes ?? null,
    logical_bytes: tier?.logicalBytes ?? null,
    capacity_bytes: tier?.capacityBytes ?? null,
    chunks: tier?.chunks ?? null,
    classes: tier?.classes === undefined ? null : mapValues(tier.classes, classJson),
  };
}

function classJson({ bytes, chunks, shareBytes }: ClassReading) {
  return { bytes, chunks, share_bytes: shareBytes };
}

function mapValues<In, Out>(
  record: Readonly<Record<string, In>>,
  to: (value: In) => Out,
): Record<string, Out> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, to(value)]));
}

/** Null where evicted chunks are not told apart. */
function livesJson(lives: LivesReading | undefined) {
  if (lives === undefined) return null;
  const { ageS, uses, regretS } = lives;
  return {
    chunks: observed(ageS),
    age_seconds: percentilesJson(ageS),
    uses: percentilesJson(uses),
    regretted_chunks: observed(regretS),
    regretted_after_seconds: percentilesJson(regretS),
  };
}

function percentilesJson(histogram: HistogramReading) {
  return { p50: quantile(histogram, 0.5) ?? null, p90: quantile(histogram, 0.9) ?? null };
}

/** Null without a disk tier. */
function diskJson(disk: DiskReading | undefined): ProcessJson['disk'] {
  if (disk === undefined) return null;
  return {
    state: disk.state,
    read_bytes: disk.readBytes,
    written_bytes: disk.writtenBytes,
    queued_chunks: disk.queuedChunks,
    demotions: disk.demotions,
    promotions: disk.promotions,
    faults: disk.faults,
    skipped_tokens: disk.skippedTokens,
    prefill_tokens_per_second: disk.prefillTokensPerS ?? null,
    load_bytes_per_second: disk.loadBytesPerS ?? null,
  };
}

/** Null without a remote tier. */
function remoteJson(remote: RemoteReading | undefined): ProcessJson['remote'] {
  if (remote === undefined) return null;
  return {
    state: remote.state,
    reason: remote.reason ?? null,
    trips: remote.trips,
    writing_paused: remote.isWritingPaused,
    read_bytes: remote.readBytes,
    written_bytes: remote.writtenBytes,
    queued_chunks: remote.queuedChunks,
    requests: remote.requests,
    errors: remote.errors,
    reads: remote.reads,
    writes: remote.writes,
    skipped_tokens: remote.skippedTokens,
    prefill_tokens_per_second: remote.prefillTokensPerS ?? null,
    load_bytes_per_second: remote.loadBytesPerS ?? null,
  };
}

/** Null where none is kept. */
function historyJson(history: HistoryReading | undefined): ProcessJson['history'] {
  if (history === undefined) return null;
  return {
    faults: history.faults,
    unwritten_requests: history.unwrittenRequests,
    lost_requests: history.lostRequests,
  };
}

/** Null where there is no GPU. */
function busJson(bus: BusBytes | undefined): ProcessJson['bus'] {
  if (bus === undefined) return null;
  return Object.fromEntries(
    BUS_KINDS.map(({ direction, kind, of }) => [`${kind}_bytes_${direction}`, bus[of]]),
  );
}

function processJson(statistics: Statistics): ProcessJson {
  const { tiers, lives, radixNodes, cachedChunks, disk, remote, bus, history } = statistics.gauges();
  const tokens = tokensByTierJson(statistics.counts);
  const ofTier = (tier: Tier) => ({
    ...tokens[tier],
    ...tierJson(tiers[tier]),
    evicted: livesJson(lives?.[tier]),
  });
  return {
    since: statistics.since.toISOString(),
    ...countsJson(statistics.counts),
    by_tier: {
      device: ofTier('device'),
      host: ofTier('host'),
      disk: ofTier('disk'),
      remote: ofTier('remote'),
    },
    disk: diskJson(disk),
    remote: remoteJson(remote),
    bus: busJson(bus),
    radix: { nodes: radixNodes ?? null, chunks: cachedChunks ?? null },
    history: historyJson(history),
  };
}

function windowJson(
  history: History,
  { window = 'all', group_by: groupBy }: z.output<typeof windowQuery>,
): z.output<typeof windowStatistics> {
  const { sinceMs, total, groups } = history.read(window, groupBy);
  return {
    window,
    since: new Date(sinceMs).toISOString(),
    ...countsByTierJson(total),
    ...(groups && {
      group_by: groupBy,
      groups: groups.map(({ name, counts }) => ({ group: name, ...countsByTierJson(counts) })),
    }),
  };
}

function seriesJson(
  history: History,
  { from: fromMs, to: toMs, step: stepMs }: z.output<typeof seriesQuery>,
): z.output<typeof statisticsHistory> {
  const series = history.series({ fromMs, toMs, stepMs });
  const { points } = series;
  const starts = Math.round((series.toMs - series.fromMs) / series.stepMs);
  const found = new Map(points.map(({ startMs, counts }) => [startMs, counts]));
  return {
    from: new Date(series.fromMs).toISOString(),
    to: new Date(series.toMs).toISOString(),
    step_seconds: series.stepMs / 1000,
    points: Array.from({ length: starts }, (_, i) => {
      const startMs = series.fromMs + i * series.stepMs;
      const counts = found.get(startMs) ?? noCounts();
      return { start: new Date(startMs).toISOString(), ...countsByTierJson(counts) };
    }),
  };
}

/** Without a history no parameter is known. */
export function statisticsOperations(statistics: Statistics, history: History | undefined): Operation[] {
  const stats = {
    id: 'getStatistics',
    method: 'get',
    path: '/v1/cache/stats',
    tag: 'statistics',
    summary: 'What requests came to: without parameters since the process started, else in a time.',
  } as const;
  if (history === undefined) {
    return [
      operation({
        ...stats,
        query: z.strictObject({}),
        answers: { 200: json(processStatistics) },
        handle: ({ res }) => void res.json(processJson(statistics)),
      }),
    ];
  }
  return [
    operation({
      ...stats,
      query: windowQuery,
      answers: { 200: json(z.union([processStatistics, windowStatistics])) },
      errors: ['insufficient_permissions', 'statistics_unavailable'],
      handle: ({ query, res }) => {
        // Who else there is, and what they do, is not for everybody.
        if (query.group_by === 'tenant') requireAdminRole(res);
        const isOfProcess = Object.keys(query).length === 0;
        res.json(isOfProcess ? processJson(statistics) : windowJson(history, query));
      },
    }),
    operation({
      id: 'getStatisticsHistory',
      method: 'get',
      path: '/v1/cache/stats/history',
      tag: 'statistics',
      summary: 'What requests came to, in the steps of a time.',
      query: seriesQuery,
      answers: { 200: json(statisticsHistory) },
      errors: ['statistics_unavailable'],
      example: { query: { step: '5m' } },
      handle: ({ query, res }) => void res.json(seriesJson(history, query)),
    }),
  ];
}
