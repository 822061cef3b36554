/**
 * `/v1/cache/stats`: what requests came to. Without parameters since the process started, with the present state of the
 * cache; for a window of time, by group or in steps, over restarts. What can't be known is null, zero is zero.
 */
import type { RequestHandler } from 'express';
import { z } from 'zod';
import { BUS_KINDS, type BusBytes } from '../engine/device.js';
import { DIMENSIONS } from '../history/count-table.js';
import type { History } from '../history/history.js';
import { WINDOW_NAMES } from '../history/resolutions.js';
import { TIERS, type Tier } from '../serving/completion.js';
import {
  blendedOf,
  blendedTokensOf,
  type Counts,
  cachedOf,
  cachedTokensOf,
  exactHitRateOf,
  hitRateOf,
  noCounts,
  savedSecondsOf,
} from '../serving/counts.js';
import type {
  ClassReading,
  DiskReading,
  HistoryReading,
  Statistics,
  TierReading,
} from '../serving/statistics.js';
import { requireAdminRole } from './identity.js';
import { validate } from './validate.js';

const STEP_SECONDS_MAX = 90 * 86_400;
const UNIT_SECONDS: ReadonlyMap<string, number> = new Map([
  ['s', 1],
  ['m', 60],
  ['h', 3600],
  ['d', 86_400],
]);
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)$/;

/** Milliseconds since the epoch: of whole seconds, or of a time with its zone. */
const instant = z.string().transform((text, context) => {
  const ms = /^\d{1,11}$/.test(text)
    ? Number(text) * 1000
    : INSTANT.test(text)
      ? Date.parse(text)
      : Number.NaN;
  if (!Number.isNaN(ms)) return ms;
  context.addIssue({
    code: 'custom',
    message: 'must be seconds since the epoch, or a time like 2026-11-25T04:00:00Z',
  });
  return z.NEVER;
});

/** Milliseconds: of whole seconds, or of a number with its unit. */
const duration = z.string().transform((text, context) => {
  const [, count, unit] = /^(\d{1,9})([smhd]?)$/.exec(text) ?? [];
  const seconds = Number(count) * (UNIT_SECONDS.get(unit ?? '') ?? 1);
  if (seconds > 0 && seconds <= STEP_SECONDS_MAX) return seconds * 1000;
  context.addIssue({
    code: 'custom',
    message: 'must be seconds, or a number with s, m, h or d, and at most 90 days',
  });
  return z.NEVER;
});

const windowQuery = z.strictObject({
  window: z.enum(WINDOW_NAMES).optional(),
  group_by: z.enum(DIMENSIONS).optional(),
});

const seriesQuery = z.strictObject({
  from: instant.optional(),
  to: instant.optional(),
  step: duration.optional(),
});

/** Of any requests: one, a window, a group, a step. */
export function countsJson(counts: Counts) {
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
  };
}

function tokensByTierJson(counts: Counts) {
  const [cached, blended] = [cachedOf(counts), blendedOf(counts)];
  const tokens = (tier: Tier) => ({ cached_tokens: cached[tier], blended_tokens: blended[tier] });
  return { device: tokens('device'), host: tokens('host'), disk: tokens('disk') };
}

function countsByTierJson(counts: Counts) {
  return { ...countsJson(counts), by_tier: tokensByTierJson(counts) };
}

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

/** Null without a disk tier. */
function diskJson(disk: DiskReading | undefined) {
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

/** Null where none is kept. */
function historyJson(history: HistoryReading | undefined) {
  if (history === undefined) return null;
  return {
    faults: history.faults,
    unwritten_requests: history.unwrittenRequests,
    lost_requests: history.lostRequests,
  };
}

/** Null where there is no GPU. */
function busJson(bus: BusBytes | undefined) {
  if (bus === undefined) return null;
  return Object.fromEntries(
    BUS_KINDS.map(({ direction, kind, of }) => [`${kind}_bytes_${direction}`, bus[of]]),
  );
}

function processJson(statistics: Statistics) {
  const { tiers, radixNodes, cachedChunks, disk, bus, history } = statistics.gauges();
  const tokens = tokensByTierJson(statistics.counts);
  return {
    since: statistics.since.toISOString(),
    ...countsJson(statistics.counts),
    by_tier: Object.fromEntries(TIERS.map((tier) => [tier, { ...tokens[tier], ...tierJson(tiers[tier]) }])),
    disk: diskJson(disk),
    bus: busJson(bus),
    radix: { nodes: radixNodes ?? null, chunks: cachedChunks ?? null },
    history: historyJson(history),
  };
}

function windowJson(history: History, { window = 'all', group_by: groupBy }: z.output<typeof windowQuery>) {
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

/** Without a history no parameter is known. */
export function cacheStats(statistics: Statistics, history: History | undefined): RequestHandler {
  return (req, res) => {
    if (history === undefined || Object.keys(req.query).length === 0) {
      validate(z.strictObject({}), req.query);
      res.json(processJson(statistics));
    } else {
      const query = validate(windowQuery, req.query);
      // Who else there is, and what they do, is not for everybody.
      if (query.group_by === 'tenant') requireAdminRole(res);
      res.json(windowJson(history, query));
    }
  };
}

export function cacheStatsHistory(history: History): RequestHandler {
  return (req, res) => {
    const { from: fromMs, to: toMs, step: stepMs } = validate(seriesQuery, req.query);
    const series = history.series({ fromMs, toMs, stepMs });
    const { points } = series;
    const starts = Math.round((series.toMs - series.fromMs) / series.stepMs);
    const found = new Map(points.map(({ startMs, counts }) => [startMs, counts]));
    res.json({
      from: new Date(series.fromMs).toISOString(),
      to: new Date(series.toMs).toISOString(),
      step_seconds: series.stepMs / 1000,
      points: Array.from({ length: starts }, (_, i) => {
        const startMs = series.fromMs + i * series.stepMs;
        const counts = found.get(startMs) ?? noCounts();
        return { start: new Date(startMs).toISOString(), ...countsByTierJson(counts) };
      }),
    });
  };
}
