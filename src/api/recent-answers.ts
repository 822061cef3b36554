/** What requests went through and what spares most, as it is told. */
import { z } from 'zod';
import { OUTCOMES } from '../serving/counts.js';
import { PHASES } from '../serving/course.js';
import { excerptTexts, missReason } from './cache-answers.js';
import { epochSeconds } from './fields.js';
import { countsByTier } from './statistics-answers.js';

const { prompt_tokens, cached_tokens, blended_tokens, computed_tokens, completion_tokens, by_tier } =
  countsByTier.shape;
const milliseconds = z.number();

const miss = z.object({ token: z.int().describe('The first that was not reused.'), reason: missReason });

const requestFields = {
  id: z.string(),
  object: z.literal('request'),
  request_id: z.string().describe('As in `x-request-id`.'),
  created_at: epochSeconds,
  endpoint: z.string(),
  tenant: z.string(),
  model: z.string(),
  outcome: z.enum(OUTCOMES),
  error: z.string().nullable().describe('The code of the error that it ended with.'),
  finish_reasons: z
    .array(z.string().nullable())
    .describe('Of each choice; null where it did not come to an end.'),
  prompt_tokens,
  cached_tokens,
  blended_tokens,
  computed_tokens,
  completion_tokens,
  by_tier,
  duration_ms: milliseconds,
  ttft_ms: milliseconds.nullable(),
  spans: z
    .array(z.object({ phase: z.enum(PHASES), start_ms: milliseconds, duration_ms: milliseconds }))
    .describe('From its arrival on.'),
};

export const recentRequest = z.object({ ...requestFields, miss: miss.nullable() });

export const recentRequests = z
  .object({ object: z.literal('list'), data: z.array(recentRequest) })
  .meta({ id: 'RecentRequests' });

const { common_text, prompt_text, cached_text, looks_like } = excerptTexts;
const texts = {
  common_text: common_text.nullable(),
  prompt_text: prompt_text.nullable(),
  cached_text: cached_text.nullable(),
  looks_like,
};

export const requestDetails = z
  .object({
    ...requestFields,
    miss: z
      .object({ ...miss.shape, ...texts })
      .nullable()
      .describe('Texts are null where none were kept.'),
  })
  .meta({ id: 'RequestDetails' });

const saved = {
  tenant: z.string(),
  tokens_saved: z.int(),
  tokens_saved_error: z
    .int()
    .describe('Of the tokens saved so many may be those of others that were counted in its place.'),
  hits: z.int(),
  used_at: epochSeconds,
  text: z.string().nullable().describe('How it begins.'),
};

export const topSavers = z
  .discriminatedUnion('by', [
    z.object({
      object: z.literal('list'),
      by: z.literal('prefix'),
      data: z.array(z.object({ ...saved, start: z.int(), tokens: z.int() })),
    }),
    z.object({
      object: z.literal('list'),
      by: z.literal('document'),
      data: z.array(z.object({ ...saved, id: z.string() })),
    }),
  ])
  .meta({ id: 'TopSavers' });
