/** The bodies of `POST /v1/cache/warm`, `POST /v1/cache/pins` and `POST /v1/cache/shared`. */
import { z } from 'zod';
import { cacheSalt } from './cache-schema.js';
import { list, optional } from './fields.js';
import type { Limits } from './limits.js';
import { promptFields, requireOnePrompt } from './prompt-schema.js';

const model = z.string().describe('Id of the served model.');

const salt = (limits: Limits) =>
  optional(cacheSalt(limits)).describe('That of the requests which are to find it.');

export function warmBody(limits: Limits) {
  const item = z.strictObject(promptFields(limits)).superRefine(requireOnePrompt);
  return z.strictObject({
    model,
    prompts: list(item, limits.warmPromptsMax)
      .refine((prompts) => prompts.length > 0, 'must not be empty')
      .describe('Prompts to compute, in this order.'),
    cache_salt: salt(limits),
  });
}

export function pinBody(limits: Limits) {
  return z
    .strictObject({
      model,
      ...promptFields(limits),
      cache_salt: salt(limits),
      ttl_seconds: optional(z.int().min(1).max(limits.ttlSecondsMax)).describe(
        'The pin ends when it was not used for so long; absent, when it is deleted.',
      ),
      priority: optional(z.int().min(0).max(100)).describe(
        'Among chunks that no pin holds any more, those with a lower one leave first.',
      ),
    })
    .superRefine(requireOnePrompt);
}

export function sharedBody(limits: Limits) {
  return z.strictObject({ model, ...promptFields(limits) }).superRefine(requireOnePrompt);
}
