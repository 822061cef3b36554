/** `GET /v1/cache/tenants`: what the KV of each tenant takes below the device, and may take. Others than admins see their own. */
import type { z } from 'zod';
import type { OwnerHolding } from '#storage';
import type { CacheDesk } from '../control/cache-desk.js';
import { tenantHoldings } from './cache-answers.js';
import { identityOf } from './identity.js';
import { isOwner, tenantOf } from './namespace.js';
import { json, type Operation, operation } from './operation.js';
import { holdingsQuery } from './steering-schema.js';

function holdingJson({ bytes, chunks, quotaBytes }: OwnerHolding) {
  return { bytes, chunks, quota_bytes: quotaBytes ?? null };
}

export function holdingsOperation(desk: CacheDesk): Operation {
  return operation({
    id: 'listTenants',
    method: 'get',
    path: '/v1/cache/tenants',
    tag: 'cache',
    summary: 'What the KV of each tenant takes below the device, and may take.',
    query: holdingsQuery,
    answers: { 200: json(tenantHoldings) },
    handle: ({ query: { offset, limit }, res }) => {
      const { role, namespace, nameOf } = identityOf(res);
      const readings = desk.holdings(role === 'admin' ? undefined : namespace);
      const named = (owner: string) => {
        const name = nameOf(owner);
        return isOwner(name) ? tenantOf(name) : name;
      };
      const answer: z.output<typeof tenantHoldings> = {
        object: 'list',
        data: readings.slice(offset, offset + limit).map(({ owner, host, disk }) => {
          return { tenant: named(owner), host: holdingJson(host), disk: holdingJson(disk) };
        }),
        total: readings.length,
        has_more: offset + limit < readings.length,
      };
      res.json(answer);
    },
  });
}
