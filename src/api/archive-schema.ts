/** What `POST /v1/cache/export` and `POST /v1/cache/import` take beside the archive itself. */
import { z } from 'zod';
import { cacheSalt } from './cache-schema.js';
import { optional } from './fields.js';
import type { Limits } from './limits.js';
import { promptFields } from './prompt-schema.js';
import { tenantName } from './tenant-scope.js';

/** Of both. */
export const archiveQuery = z.strictObject({ tenant: tenantName.optional() });

export function exportBody(limits: Limits) {
  return z
    .strictObject({
      model: z.string().describe('Id of the served model.'),
      ...promptFields(limits),
      cache_salt: optional(cacheSalt(limits)).describe('That of the part which is meant.'),
    })
    .superRefine(({ messages, prompt }, context) => {
      if (messages === undefined || prompt === undefined) return;
      const message = 'contradicts prompt: give one of them, or none for all that is cached';
      context.addIssue({ code: 'custom', path: ['messages'], message });
    });
}
