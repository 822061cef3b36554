/** The queries of `GET /v1/requests` and `GET /v1/cache/top`. */
import { z } from 'zod';
import { queryNumber } from './fields.js';

const RECENT_DEFAULT = 50;
const RECENT_MAX = 1000;
const TOP_DEFAULT = 20;
const TOP_MAX = 100;

export const recentQuery = z.strictObject({
  limit: queryNumber({ min: 1, max: RECENT_MAX, fallback: RECENT_DEFAULT }),
});

const SAVERS = ['prefix', 'document'] as const;
export type Saver = (typeof SAVERS)[number];

export const topQuery = z.strictObject({
  by: z.enum(SAVERS, `must be one of ${SAVERS.join(', ')}`).default('prefix'),
  limit: queryNumber({ min: 1, max: TOP_MAX, fallback: TOP_DEFAULT }),
});
