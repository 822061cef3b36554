/** What is asked of the cache: the bodies and queries of `/v1/cache/…`. */
import { z } from 'zod';
import { TIERS } from '../serving/completion.js';
import { cacheSalt, SALT_DESCRIPTION } from './cache-schema.js';
import { looksLike, optional, queryNumber, someOf } from './fields.js';
import type { Limits } from './limits.js';
import { onePromptWith } from './prompt-schema.js';

const NODES_DEFAULT = 100;
const NODES_MAX = 1000;
/** Of a place: a number of up to nine digits and a dot for each edge from the root. */
const PLACE_CHARACTERS_MAX = 10_000;
const PLACE = /^(?:[0-9]{1,9}(?:\.[0-9]{1,9})*)?$/;

const model = z.string().describe('Id of the served model.');

const salt = (limits: Limits) => cacheSalt(limits).optional().describe(SALT_DESCRIPTION);

/** Of `POST /v1/cache/lookup` and `POST /v1/cache/explain`. */
export function lookupBody(limits: Limits) {
  return onePromptWith(limits, {
    model,
    cache_salt: optional(cacheSalt(limits)).describe(SALT_DESCRIPTION),
  });
}

/** Of `POST /v1/cache/warm`. */
export function warmBody(limits: Limits) {
  const prompts = someOf(onePromptWith(limits, {}), limits.warmPromptsMax);
  return z.strictObject({ model, prompts: prompts.describe('Prompts to compute, in this order.') });
}

/** Of `POST /v1/cache/pins`. */
export function pinBody(limits: Limits) {
  return onePromptWith(limits, {
    model,
    ttl_seconds: optional(z.int().min(1).max(limits.ttlSecondsMax)).describe(
      'The pin ends when it was not used for so long; absent, when it is deleted.',
    ),
    priority: optional(z.int().min(0).max(100)).describe(
      'Among chunks that no pin holds any more, those with a lower one leave first.',
    ),
  });
}

/** Of `DELETE /v1/cache`. */
export function clearQuery(limits: Limits) {
  return z.strictObject({
    cache_salt: salt(limits),
    tier: z
      .enum(TIERS, `must be one of ${TIERS.join(', ')}`)
      .optional()
      .describe('In this tier only.'),
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
