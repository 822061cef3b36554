/** What `DELETE /v1/cache` takes: a query, and with `by=prefix` a body with a prompt. */
import { z } from 'zod';
import { TIERS } from '../serving/completion.js';
import { cacheSalt } from './cache-schema.js';
import { optional } from './fields.js';
import type { Limits } from './limits.js';
import { promptFields, requireOnePrompt } from './prompt-schema.js';
import { tenantName } from './tenant-scope.js';

/** Means all models: also what others than the served one left on the disk. */
export const EVERY_MODEL = '*';

const ELSEWHERE = 'is not allowed with by=prefix: the body has it';

export function clearQuery(limits: Limits) {
  return z
    .strictObject({
      by: z
        .literal('prefix', 'must be prefix, or absent')
        .optional()
        .describe('A body with a prompt comes too: only what begins with it is forgotten.'),
      tier: z
        .enum(TIERS, `must be one of ${TIERS.join(', ')}`)
        .optional()
        .describe('The only tier to forget it in.'),
      tenant: tenantName.optional(),
      model: z
        .string()
        .optional()
        .describe('The served model, or `*`: also what other models left on the disk, for admins.'),
      cache_salt: cacheSalt(limits).optional(),
    })
    .superRefine(({ by, model, cache_salt }, context) => {
      if (by === undefined) return;
      for (const [field, value] of Object.entries({ model, cache_salt })) {
        if (value !== undefined) context.addIssue({ code: 'custom', path: [field], message: ELSEWHERE });
      }
    });
}

export function clearBody(limits: Limits) {
  return z
    .strictObject({
      model: z.string().describe('Id of the served model.'),
      ...promptFields(limits),
      cache_salt: optional(cacheSalt(limits)).describe('That of the part which is meant.'),
    })
    .superRefine(requireOnePrompt);
}
