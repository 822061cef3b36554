/** Which time statistics are asked of. */
import { z } from 'zod';
import { DIMENSIONS } from '../history/count-table.js';
import { WINDOW_NAMES } from '../history/resolutions.js';
import { looksLike } from './fields.js';

const STEP_SECONDS_MAX = 90 * 86_400;
const UNIT_SECONDS: ReadonlyMap<string, number> = new Map([
  ['s', 1],
  ['m', 60],
  ['h', 3600],
  ['d', 86_400],
]);
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)$/;

/** Milliseconds since the epoch: of whole seconds, or of a time with its zone. */
const anyInstant = z.string().transform((text, context) => {
  const ms = /^\d{1,11}$/.test(text)
    ? Number(text) * 1000
    : INSTANT.test(text)
      ? Date.parse(text)
      : Number.NaN;
  if (!Number.isNaN(ms)) return ms;
  context.addIssue({
    code: 'custom',
    message: 'must be seconds since the epoch, or a time like 2026-11-25T04:00:00Z',
  });
  return z.NEVER;
});

const instant = looksLike(
  z.union([z.int().min(0).max(99_999_999_999), z.iso.datetime({ offset: true })]),
  anyInstant,
);

/** Milliseconds: of whole seconds, or of a number with its unit. */
const anyDuration = z.string().transform((text, context) => {
  const [, count, unit] = /^(\d{1,9})([smhd]?)$/.exec(text) ?? [];
  const seconds = Number(count) * (UNIT_SECONDS.get(unit ?? '') ?? 1);
  if (seconds > 0 && seconds <= STEP_SECONDS_MAX) return seconds * 1000;
  context.addIssue({
    code: 'custom',
    message: 'must be seconds, or a number with s, m, h or d, and at most 90 days',
  });
  return z.NEVER;
});

const duration = looksLike(
  z.union([z.int().min(1).max(STEP_SECONDS_MAX), z.string().regex(/^[0-9]{1,9}[smhd]$/)]),
  anyDuration,
);

/** Of `GET /v1/cache/stats`. */
export const windowQuery = z.strictObject({
  window: z.enum(WINDOW_NAMES).optional().describe('So far back from now.'),
  group_by: z.enum(DIMENSIONS).optional().describe('Adds `groups`. `tenant` is for admins.'),
});

/** Of `GET /v1/cache/stats/history`. */
export const seriesQuery = z.strictObject({
  from: instant.optional().describe('Seconds since the epoch, or a time; default: an hour before `to`.'),
  to: instant.optional().describe('Likewise; default: now.'),
  step: duration.optional().describe('Seconds, or a number with `s`, `m`, `h` or `d`; a multiple of 10 s.'),
});
