/** What the answers of OpenAI's two completion endpoints look like, whole and as the data of events. */
import { z } from 'zod';
import { SELECTORS } from '#blend';
import { TIERS } from '../serving/completion.js';
import { tokensByTier } from './cache-answers.js';
import { errorAnswer } from './error-answers.js';
import { epochSeconds, nameIn } from './fields.js';

export const usage = z
  .object({
    prompt_tokens: z.int(),
    completion_tokens: z.int(),
    total_tokens: z.int(),
    prompt_tokens_details: z.object({
      cached_tokens: z.int().describe('Reused, and equal to a full prefill.'),
      blended_tokens: z.int().describe('Reused, and not exact.'),
    }),
    completion_tokens_details: z.object({ reasoning_tokens: z.int() }),
  })
  .meta({ id: 'Usage' });

const ms = z.number();

export const timings = z
  .object({
    queue_ms: ms,
    load_ms: ms,
    prefill_ms: ms,
    decode_ms: ms,
    ttft_ms: ms,
    cached_tokens: tokensByTier,
    blended_tokens: tokensByTier,
    computed_tokens: z.int(),
    tokens_per_second: z.number().nullable().describe('Of decode; null when nothing was decoded.'),
    blend: z
      .object({ prepare_ms: ms, load_ms: ms, rotate_ms: ms, select_ms: ms, recompute_ms: ms })
      .optional()
      .describe('Only when something was blended.'),
  })
  .meta({ id: 'Timings' });

export const explanation = z
  .object({
    outcome: z.enum([
      'blended',
      'exact',
      'no_documents',
      'not_profiled',
      'quality_bound',
      'not_movable',
      'too_long',
      'in_prefix',
    ]),
    selector: nameIn(SELECTORS).nullable(),
    recompute_ratio: z.number().nullable(),
    prefix_tokens: z.int(),
    documents: z.array(
      z.object({
        index: z.int(),
        id: z.string().nullable(),
        start: z.int(),
        end: z.int(),
        source: z.enum([...TIERS, 'computed', 'prefix']),
      }),
    ),
    recomputed: z.array(z.int()),
  })
  .meta({ id: 'BlendExplanation' });

const finishReason = z.enum(['stop', 'length']);
const index = z.int();

const rankedToken = { token: z.string(), logprob: z.number(), bytes: z.array(z.int()) };
const chatLogprobs = z
  .object({
    content: z.array(z.object({ ...rankedToken, top_logprobs: z.array(z.object(rankedToken)) })),
    refusal: z.null(),
  })
  .nullable();
const textLogprobs = z
  .object({
    tokens: z.array(z.string()),
    token_logprobs: z.array(z.number()),
    top_logprobs: z.array(z.record(z.string(), z.number())),
    text_offset: z.array(z.int()),
  })
  .nullable();

const head = {
  id: z.string(),
  created: epochSeconds,
  model: z.string(),
  system_fingerprint: z.string().optional(),
};

function whole<Choice extends z.ZodType>(object: string, choice: Choice) {
  return z.object({
    ...head,
    object: z.literal(object),
    choices: z.array(choice),
    usage,
    timings,
    explanation: explanation.optional(),
  });
}

/** The data of an event: a chunk, the end, or an error that ends the stream. */
function streamed<Choice extends z.ZodType>(object: string, choice: Choice) {
  const chunk = z.object({
    ...head,
    object: z.literal(object),
    choices: z.array(choice),
    usage: usage.nullish().describe('Null but in the last chunk; absent unless it was asked for.'),
    timings: timings.optional(),
    explanation: explanation.optional(),
  });
  return z.union([chunk, z.literal('[DONE]'), errorAnswer]);
}

export const chatCompletion = whole(
  'chat.completion',
  z.object({
    index,
    message: z.object({ role: z.literal('assistant'), content: z.string(), refusal: z.null() }),
    logprobs: chatLogprobs,
    finish_reason: finishReason,
  }),
).meta({ id: 'ChatCompletion' });

export const chatCompletionEvent = streamed(
  'chat.completion.chunk',
  z.object({
    index,
    delta: z.object({ role: z.literal('assistant').optional(), content: z.string().optional() }),
    logprobs: chatLogprobs,
    finish_reason: finishReason.nullable(),
  }),
).meta({ id: 'ChatCompletionEvent' });

export const textCompletion = whole(
  'text_completion',
  z.object({ index, text: z.string(), logprobs: textLogprobs, finish_reason: finishReason }),
).meta({ id: 'TextCompletion' });

export const textCompletionEvent = streamed(
  'text_completion',
  z.object({ index, text: z.string(), logprobs: textLogprobs, finish_reason: finishReason.nullable() }),
).meta({ id: 'TextCompletionEvent' });
