/** `GET /v1/cache/tenants`: what the KV of each tenant takes below the device, and may take. Others than admins see their own. */
import type { RequestHandler } from 'express';
import { z } from 'zod';
import type { OwnerHolding } from '#storage';
import type { CacheDesk } from '../control/cache-desk.js';
import { queryNumber } from './fields.js';
import { identityOf } from './identity.js';
import { isOwner, tenantOf } from './namespace.js';
import { validate } from './validate.js';

const PAGE_DEFAULT = 100;
const PAGE_MAX = 1000;

export const holdingsQuery = z.strictObject({
  offset: queryNumber({ min: 0, max: 999_999_999, fallback: 0 }),
  limit: queryNumber({ min: 1, max: PAGE_MAX, fallback: PAGE_DEFAULT }),
});

function holdingJson({ bytes, chunks, quotaBytes }: OwnerHolding) {
  return { bytes, chunks, quota_bytes: quotaBytes ?? null };
}

export function holdingsRoute(desk: CacheDesk): RequestHandler {
  return (req, res) => {
    const { offset, limit } = validate(holdingsQuery, req.query);
    const { role, namespace, nameOf } = identityOf(res);
    const readings = desk.holdings(role === 'admin' ? undefined : namespace);
    const named = (owner: string) => {
      const name = nameOf(owner);
      return isOwner(name) ? tenantOf(name) : name;
    };
    res.json({
      object: 'list',
      data: readings.slice(offset, offset + limit).map(({ owner, host, disk }) => {
        return { tenant: named(owner), host: holdingJson(host), disk: holdingJson(disk) };
      }),
      total: readings.length,
      has_more: offset + limit < readings.length,
    });
  };
}
