/**
 * How a request may use the cache: `cache`, and the fields by which clients of other servers say it. What could have no
 * effect is refused, but for what those clients send to everyone: it is accepted, and documented as without effect.
 */
import { z } from 'zod';
import { SELECTORS } from '#blend';
import { CACHE_MODES, type CacheControl, DEFAULT_CACHE } from '../serving/completion.js';
import { defaulted, nameIn, optional, text } from './fields.js';
import type { Limits } from './limits.js';

const selectorName = nameIn(SELECTORS, `must be one of ${Object.keys(SELECTORS).join(', ')}`);

const fields = {
  mode: optional(z.enum(CACHE_MODES)).describe('Which KV may be reused.'),
  recompute_ratio: optional(z.number().min(0).max(1)).describe(
    'Share of the reused tokens of documents that is recomputed.',
  ),
  selector: optional(selectorName).describe('How these tokens are chosen.'),
  explain: defaulted(z.boolean(), DEFAULT_CACHE.explain).describe('Tell where each prompt token came from.'),
};

/** Of an endpoint that takes documents. */
export const cacheControl = z.strictObject(fields).superRefine(({ mode, ...blending }, context) => {
  if (mode === 'exact' || mode === 'off')
    refuseBlending(blending, context, `is not allowed with mode "${mode}"`);
});

/** Of an endpoint whose prompts have no documents, so that nothing can be blended. */
export const cacheControlWithoutDocuments = z
  .strictObject(fields)
  .superRefine(({ mode, ...blending }, context) => {
    const message = 'needs documents, which only /v1/chat/completions takes';
    if (mode === 'blend') context.addIssue({ code: 'custom', path: ['mode'], message });
    refuseBlending(blending, context, message);
  });

type CacheBody = z.output<typeof cacheControl>;

/** Anthropic's mark of a prefix to be cached. All are, as long as there is room, so that it asks for nothing. */
export const cacheMark = optional(
  z.strictObject({ type: z.literal('ephemeral'), ttl: optional(z.enum(['5m', '1h'])) }),
).describe('Accepted and without effect.');

export const SALT_DESCRIPTION = 'That of the requests whose part of the cache is meant.';

/** Sets KV apart within a namespace. */
export function cacheSalt({ cacheSaltCharactersMax }: Pick<Limits, 'cacheSaltCharactersMax'>) {
  return text.min(1).max(cacheSaltCharactersMax);
}

/** Fields of both of OpenAI's endpoints by which clients of OpenAI, vLLM and llama.cpp speak of the cache. */
export function cacheConventions({ cacheSaltCharactersMax, promptCacheKeyCharactersMax }: Limits) {
  return {
    cache_salt: optional(cacheSalt({ cacheSaltCharactersMax })).describe(
      'KV is shared only between requests of the same API key with the same salt.',
    ),
    cache_prompt: optional(z.boolean()).describe('False is the mode `off`, true is the default.'),
    prompt_cache_key: optional(z.string().max(promptCacheKeyCharactersMax)).describe(
      'Accepted and without effect.',
    ),
    prompt_cache_retention: optional(z.enum(['in_memory', '24h'])).describe('Accepted and without effect.'),
  };
}

interface CacheFields {
  readonly cache?: CacheBody | undefined;
  readonly cache_prompt?: boolean | undefined;
}

/** `cache_prompt` and `cache` say the same, or only one of them says anything. */
export function refuseCacheContradiction(
  { cache, cache_prompt }: CacheFields,
  context: z.RefinementCtx,
): void {
  if (cache === undefined || cache_prompt === undefined) return;
  const { mode, recompute_ratio, selector } = cache;
  if (mode !== undefined && (mode === 'off') === cache_prompt) {
    context.addIssue({
      code: 'custom',
      path: ['cache_prompt'],
      message: `contradicts cache.mode "${mode}"`,
    });
  }
  if (!cache_prompt) {
    const message = 'is not allowed with cache_prompt: false';
    refuseBlending({ recompute_ratio, selector }, context, message, ['cache']);
  }
}

function refuseBlending(
  body: Pick<CacheBody, 'recompute_ratio' | 'selector'>,
  context: z.RefinementCtx,
  message: string,
  path: readonly string[] = [],
): void {
  for (const field of ['recompute_ratio', 'selector'] as const) {
    if (body[field] !== undefined) context.addIssue({ code: 'custom', path: [...path, field], message });
  }
}

/** In the words of the service. */
export function cacheOf({ cache, cache_prompt }: CacheFields): CacheControl {
  const defaultMode = cache_prompt === false ? 'off' : DEFAULT_CACHE.mode;
  if (cache === undefined) return { ...DEFAULT_CACHE, mode: defaultMode };
  const { mode = defaultMode, recompute_ratio, selector, explain } = cache;
  return { mode, recomputeRatio: recompute_ratio, selector, explain };
}
