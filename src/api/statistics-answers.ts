/** What requests came to, as it is told. What can't be known is null, zero is zero. */
import { z } from 'zod';
import { DIMENSIONS } from '../history/count-table.js';
import { WINDOW_NAMES } from '../history/resolutions.js';

const instant = z.iso.datetime({ offset: true });
const counters = z.record(z.string(), z.int());

const milliseconds = z.int().nullable();
const firstTokens = z.object({ requests: z.int(), mean: milliseconds, p50: milliseconds, p95: milliseconds });

const countFields = {
  requests: z
    .object({ completed: z.int(), aborted: z.int(), failed: z.int(), refused: z.int() })
    .describe('By how they ended.'),
  prompt_tokens: z.int(),
  cached_tokens: z.int(),
  blended_tokens: z.int(),
  computed_tokens: z.int(),
  completion_tokens: z.int(),
  hit_rate: z.number().nullable().describe('Share of prompt tokens that were reused.'),
  exact_hit_rate: z.number().nullable().describe('Without the blended ones.'),
  saved_prefill_seconds: z.number().nullable(),
  unpriced_tokens: z.int().describe('Reused tokens that are not in the saved time.'),
  regret_tokens: z.int().describe('Computed only since they had been evicted.'),
  ttft_ms: z
    .object({ none: firstTokens, partial: firstTokens, most: firstTokens })
    .describe(
      'Time to the first token, by how much of the prompt was reused: nothing, less than half, half or more.',
    ),
};

/** Of any requests: one, a window, a group, a step. */
export const counts = z.object(countFields);

const tierTokens = {
  cached_tokens: z.int(),
  blended_tokens: z.int(),
  regret_tokens: z
    .int()
    .nullable()
    .describe('Of the tier that had them last; null where they can’t be told.'),
};
const byTier = <Tier extends z.ZodType>(tier: Tier) =>
  z.object({ device: tier, host: tier, disk: tier, remote: tier });

export const tokensByTier = byTier(z.object(tierTokens));
export const countsByTier = z.object({ ...countFields, by_tier: tokensByTier });

const percentiles = z.object({ p50: z.number().nullable(), p90: z.number().nullable() });

const tier = z.object({
  ...tierTokens,
  bytes: z.int().nullable(),
  logical_bytes: z.int().nullable().describe('What they would be if nothing were shared.'),
  capacity_bytes: z.int().nullable(),
  chunks: z.int().nullable(),
  classes: z
    .record(z.string(), z.object({ bytes: z.int(), chunks: z.int(), share_bytes: z.number() }))
    .nullable(),
  evicted: z
    .object({
      chunks: z.int(),
      age_seconds: percentiles,
      uses: percentiles,
      regretted_chunks: z.int(),
      regretted_after_seconds: percentiles,
    })
    .nullable()
    .describe('The lives of evicted chunks.'),
});

const disk = z.object({
  state: z.enum(['opening', 'open', 'closing', 'closed']),
  read_bytes: z.int(),
  written_bytes: z.int(),
  queued_chunks: z.int(),
  demotions: counters,
  promotions: counters,
  faults: counters,
  skipped_tokens: z.int(),
  prefill_tokens_per_second: z.number().nullable(),
  load_bytes_per_second: z.number().nullable(),
});

const remote = z.object({
  state: z.enum(['closed', 'half-open', 'open']).describe('Of its circuit breaker; `closed`: it is used.'),
  reason: z.string().nullable().describe('Why it is not.'),
  trips: z.int(),
  writing_paused: z.boolean(),
  read_bytes: z.int(),
  written_bytes: z.int(),
  queued_chunks: z.int(),
  requests: z.record(z.string(), z.object({ ok: z.int(), failed: z.int() })),
  errors: counters,
  reads: counters,
  writes: counters,
  skipped_tokens: z.int(),
  prefill_tokens_per_second: z.number().nullable(),
  load_bytes_per_second: z.number().nullable(),
});

export const processStatistics = z
  .object({
    since: instant,
    ...countFields,
    by_tier: byTier(tier),
    disk: disk.nullable().describe('Null without a disk tier.'),
    remote: remote.nullable().describe('Null without a remote tier.'),
    bus: counters.nullable().describe('Bytes between host and GPU; null without a GPU.'),
    radix: z.object({ nodes: z.int().nullable(), chunks: z.int().nullable() }),
    history: z
      .object({ faults: counters, unwritten_requests: z.int(), lost_requests: z.int() })
      .nullable()
      .describe('Null where none is kept.'),
  })
  .meta({ id: 'ProcessStatistics', description: 'Since the process started, and what the cache holds now.' });

export const windowStatistics = z
  .object({
    window: z.enum(WINDOW_NAMES),
    since: instant,
    ...countsByTier.shape,
    group_by: z.enum(DIMENSIONS).optional(),
    groups: z.array(z.object({ group: z.string(), ...countsByTier.shape })).optional(),
  })
  .meta({ id: 'WindowStatistics', description: 'Of what ended in a time, over restarts.' });

export const statisticsHistory = z
  .object({
    from: instant,
    to: instant,
    step_seconds: z.number(),
    points: z.array(z.object({ start: instant, ...countsByTier.shape })),
  })
  .meta({ id: 'StatisticsHistory' });
