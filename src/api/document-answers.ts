/** What stored documents are told as. */
import { z } from 'zod';
import { tokensByTier } from './cache-answers.js';
import { errorDetail } from './error-answers.js';
import { epochSeconds } from './fields.js';

export const storedDocumentAnswer = z
  .object({
    id: z.string(),
    object: z.literal('document'),
    title: z.string().nullable(),
    status: z.enum(['queued', 'computing', 'ready', 'failed']),
    progress: z.object({ computed_tokens: z.int(), tokens: z.int() }),
    tokens: z.int().describe('Of the document alone, for the served model.'),
    cached_tokens: tokensByTier,
    created_at: epochSeconds,
    expires_at: epochSeconds.nullable(),
    pinned: z.boolean(),
    error: z.object({ code: z.string(), message: z.string() }).optional().describe('Why it failed.'),
  })
  .meta({ id: 'Document' });

export const documentPage = z
  .object({
    object: z.literal('list'),
    data: z.array(storedDocumentAnswer),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  })
  .meta({ id: 'Documents' });

export const documentDeleted = z.object({
  id: z.string(),
  object: z.literal('document'),
  deleted: z.literal(true),
});

export const documentBatch = z
  .object({
    object: z.literal('document.batch'),
    accepted: z.int(),
    failed: z.int(),
    errors: z.array(errorDetail.extend({ line: z.int() })).describe('The first ones.'),
  })
  .meta({ id: 'DocumentBatch' });
