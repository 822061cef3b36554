/** `cache` of a request: how it may use the cache. What could have no effect is refused, not ignored. */
import { z } from 'zod';
import { SELECTORS, type SelectorName } from '#blend';
import { CACHE_MODES, type CacheControl, DEFAULT_CACHE } from '../serving/completion.js';
import { defaulted, optional } from './fields.js';

const selectorName = z.custom<SelectorName>(
  (value) => typeof value === 'string' && Object.hasOwn(SELECTORS, value),
  `must be one of ${Object.keys(SELECTORS).join(', ')}`,
);

const fields = {
  mode: defaulted(z.enum(CACHE_MODES), DEFAULT_CACHE.mode).describe('Which KV may be reused.'),
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

function refuseBlending(
  body: Pick<CacheBody, 'recompute_ratio' | 'selector'>,
  context: z.RefinementCtx,
  message: string,
): void {
  for (const field of ['recompute_ratio', 'selector'] as const) {
    if (body[field] !== undefined) context.addIssue({ code: 'custom', path: [field], message });
  }
}

/** In the words of the service. */
export function cacheOf(body: CacheBody | undefined): CacheControl {
  if (body === undefined) return DEFAULT_CACHE;
  const { mode, recompute_ratio, selector, explain } = body;
  return { mode, recomputeRatio: recompute_ratio, selector, explain };
}
