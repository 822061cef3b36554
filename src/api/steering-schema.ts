/** What is asked of the cache: the bodies and queries of `/v1/cache/…`. */
import { z } from 'zod';
import { TIERS } from '../serving/completion.js';
import { cacheSalt, SALT_DESCRIPTION } from './cache-schema.js';
import { looksLike, optional, queryNumber, someOf } from './fields.js';
import type { Limits } from './limits.js';
import { onePromptWith, somePromptWith } from './prompt-schema.js';

const NODES_DEFAULT = 100;
const NODES_MAX = 1000;
/** Of a place: a number of up to nine digits and a dot for each edge from the root. */
const PLACE_CHARACTERS_MAX = 10_000;
const PLACE = /^(?:[0-9]{1,9}(?:\.[0-9]{1,9})*)?$/;

const model = z.string().describe('Id of the served model.');

const salt = (limits: Limits) => cacheSalt(limits).optional().describe(SALT_DESCRIPTION);

/** Means all tenants. */
export const EVERY_TENANT = '*';

/** Means all models: also what others than the served one left on the disk. */
export const EVERY_MODEL = '*';

const tenant = z
  .string()
  .regex(/^(?:\*|[A-Za-z0-9][A-Za-z0-9._-]{0,63})$/, 'must be the name of a tenant, or *')
  .optional()
  .describe('The tenant whose part is meant, `*` for all. Only admins may name others.');

/** Of `POST /v1/cache/lookup`, `POST /v1/cache/explain`, and `DELETE /v1/cache?by=prefix`. */
export function lookupBody(limits: Limits) {
  return onePromptWith(limits, {
    model,
    cache_salt: optional(cacheSalt(limits)).describe(SALT_DESCRIPTION),
  });
}

/** Of `POST /v1/cache/warm`. */
export function warmBody(limits: Limits) {
  const prompts = someOf(onePromptWith(limits, {}), limits.warmPromptsMax);
  return z.strictObject({
    model,
    prompts: prompts.describe('Prompts to compute, in this order.'),
    cache_salt: optional(cacheSalt(limits)).describe(SALT_DESCRIPTION),
  });
}

/** Of `POST /v1/cache/pins`. */
export function pinBody(limits: Limits) {
  return onePromptWith(limits, {
    model,
    cache_salt: optional(cacheSalt(limits)).describe(SALT_DESCRIPTION),
    ttl_seconds: optional(z.int().min(1).max(limits.ttlSecondsMax)).describe(
      'The pin ends when it was not used for so long; absent, when it is deleted.',
    ),
    priority: optional(z.int().min(0).max(100)).describe(
      'Among chunks that no pin holds any more, those with a lower one leave first.',
    ),
  });
}

/** Of `POST /v1/cache/shared`. */
export function sharedBody(limits: Limits) {
  return onePromptWith(limits, { model });
}

/** Of `POST /v1/cache/export`: without a prompt all that is cached is meant. */
export function exportBody(limits: Limits) {
  return somePromptWith(limits, {
    model,
    cache_salt: optional(cacheSalt(limits)).describe(SALT_DESCRIPTION),
  });
}

/** Of `POST /v1/cache/export` and `POST /v1/cache/import`. */
export const archiveQuery = z.strictObject({ tenant });

/** Of `GET /v1/cache/tenants`. */
export const holdingsQuery = z.strictObject({
  offset: queryNumber({ min: 0, max: 999_999_999, fallback: 0 }).describe('Tenants to leave out.'),
  limit: queryNumber({ min: 1, max: 1000, fallback: 100 }),
});

/** Of `DELETE /v1/cache`. */
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
        .describe('In this tier only.'),
      tenant,
      model: z
        .string()
        .optional()
        .describe('The served model, or `*`: also what other models left on the disk, for admins.'),
      cache_salt: salt(limits),
    })
    .superRefine(({ by, model: named, cache_salt }, context) => {
      if (by === undefined) return;
      const message = 'is not allowed with by=prefix: the body has it';
      for (const [field, value] of Object.entries({ model: named, cache_salt })) {
        if (value !== undefined) context.addIssue({ code: 'custom', path: [field], message });
      }
    });
}

const place = looksLike(
  z.string().regex(PLACE),
  z
    .string()
    .refine((text) => text.length <= PLACE_CHARACTERS_MAX && PLACE.test(text), 'must be the place of a node')
    .transform((text) => (text === '' ? [] : text.split('.').map(Number))),
);

/** Of `GET /v1/cache/tree`. */
export function treeQuery(limits: Limits) {
  return z.strictObject({
    cache_salt: salt(limits),
    place: place.optional().describe('Of a node; absent, the root.'),
    offset: queryNumber({ min: 0, max: 999_999_999, fallback: 0 }).describe('Nodes to leave out.'),
    limit: queryNumber({ min: 1, max: NODES_MAX, fallback: NODES_DEFAULT }),
  });
}

export const eventNumber = looksLike(
  z.int().min(0).max(999_999_999_999_999),
  z
    .string()
    .regex(/^\d{1,15}$/, 'must be the number of an event')
    .transform(Number),
);

/** Of `GET /v1/cache/events`. */
export function eventsQuery(limits: Limits) {
  return z.strictObject({
    after: eventNumber.optional().describe('Go on after this event; absent, with what comes.'),
    cache_salt: salt(limits),
  });
}
