/** The body of `POST /v1/completions`, and its translation into the words of the service. */
import { z } from 'zod';
import type { Prompt } from '../serving/completion.js';
import {
  cacheControlWithoutDocuments,
  cacheConventions,
  cacheOf,
  refuseCacheContradiction,
} from './cache-schema.js';
import type { Parsed } from './dialect.js';
import {
  defaulted,
  looksLike,
  optional,
  refuseStreamOptionsAlone,
  samplingOf,
  sharedFields,
  text,
  unsupported,
} from './fields.js';
import type { Limits } from './limits.js';

/** What the original endpoint generates when the request does not say. */
const DEFAULT_MAX_TOKENS = 16;

function isTokens(value: unknown): value is number[] {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((token) => Number.isInteger(token) && token >= 0 && token < 2 ** 31)
  );
}

const tokens = z
  .array(
    z
      .int()
      .min(0)
      .max(2 ** 31 - 1),
  )
  .min(1);
const someText = z.string().min(1);

const anyPrompt = z.unknown().transform((value, context): Prompt => {
  const refuse = (message: string, code = 'invalid_value') => {
    context.issues.push({ code: 'custom', message, params: { code }, input: value });
    return z.NEVER;
  };
  const isList = Array.isArray(value) && (typeof value[0] === 'string' || Array.isArray(value[0]));
  if (isList && value.length > 1)
    return refuse('is not supported with more than one prompt', 'unsupported_field');
  const single: unknown = isList ? value[0] : value;
  if (isTokens(single)) return { kind: 'tokens', tokens: single };
  if (typeof single !== 'string' || single === '') {
    return refuse('must be a string or an array of token ids, and not empty');
  }
  const wellFormed = text.safeParse(single);
  return wellFormed.success ? { kind: 'text', text: single } : refuse('must be well-formed Unicode');
});

/** A string, its tokens, or a list with one of these. */
export const prompt = looksLike(
  z.union([someText, tokens, z.array(someText).length(1), z.array(tokens).length(1)]),
  anyPrompt,
);

/** The schema of a text completion request. Fields named with `unsupported` are refused by their name. */
export function textSchema(limits: Limits) {
  return z
    .strictObject({
      ...sharedFields(limits),
      ...cacheConventions(limits),
      prompt: prompt.describe('A string or an array of token ids.'),
      max_tokens: defaulted(z.int().min(1), DEFAULT_MAX_TOKENS).describe(
        'Tokens to generate at most, for each choice.',
      ),
      logprobs: optional(z.int().min(0).max(5)).describe(
        'Number of likeliest alternatives to report per token.',
      ),
      cache: optional(cacheControlWithoutDocuments).describe('How the cache may be used.'),
      best_of: unsupported(1),
      echo: unsupported(false),
      suffix: unsupported(''),
    })
    .superRefine((body, context) => {
      refuseStreamOptionsAlone(body, context);
      refuseCacheContradiction(body, context);
    });
}

/** A request in the words of the service. */
export function textBody(limits: Limits): z.ZodType<Parsed> {
  return textSchema(limits).transform((body) => ({
    model: body.model,
    stream: body.stream,
    includeUsage: body.stream_options?.include_usage ?? false,
    cacheSalt: body.cache_salt,
    work: {
      prompt: body.prompt,
      promptField: 'prompt',
      n: body.n,
      maxTokens: body.max_tokens,
      stop: body.stop ?? [],
      cache: cacheOf(body),
      priority: body.priority,
      deadlineMs: body.deadline_ms,
      sampling: samplingOf(body, body.logprobs),
    },
  }));
}
