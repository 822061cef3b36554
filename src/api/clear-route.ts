/**
 * `DELETE /v1/cache`: forgets what is cached, of a tenant, a prefix, a model, in a tier.
 *
 * A prompt comes as a body, which some proxies drop from a DELETE. So it is announced in the query (`by=prefix`): a
 * request whose body got lost is refused, and does not forget everything.
 */
import type { Request } from 'express';
import type { z } from 'zod';
import type { CacheDesk, ClearOrder } from '../control/cache-desk.js';
import { RadixkvError } from '../errors.js';
import type { CompletionService } from '../serving/completion.js';
import type { RecentRequests } from '../serving/recent-requests.js';
import type { Savings } from '../serving/savings.js';
import { cacheCleared } from './cache-answers.js';
import { requireAdminRole } from './identity.js';
import type { Limits } from './limits.js';
import { json, type Operation, operation } from './operation.js';
import { promptOf, served } from './prompt-schema.js';
import { clearQuery, EVERY_MODEL, lookupBody } from './steering-schema.js';
import { ownersMeant, partsMeant } from './tenant-scope.js';

interface ClearParts {
  readonly desk: CacheDesk;
  readonly service: CompletionService;
  readonly recent: RecentRequests;
  readonly savings: Savings;
  readonly limits: Limits;
}

const hasBody = (req: Request): boolean =>
  req.get('transfer-encoding') !== undefined || Number(req.get('content-length') ?? 0) > 0;

export function clearOperation({ desk, service, recent, savings, limits }: ClearParts): Operation {
  const prefixOf = ({ cache_salt: salt, ...body }: z.output<ReturnType<typeof lookupBody>>) => {
    // The namespace of a prompt without documents changes none of its tokens.
    return { salt, prompt: { ...promptOf(served(service, body)), namespace: '' } };
  };
  return operation({
    id: 'clearCache',
    method: 'delete',
    path: '/v1/cache',
    tag: 'cache',
    summary: 'Forgets all that the key has, or what begins with a prompt.',
    query: clearQuery(limits),
    body: lookupBody(limits),
    isBodyOptional: true,
    answers: { 200: json(cacheCleared) },
    errors: ['insufficient_permissions', 'not_found', 'model_not_found', 'context_length_exceeded'],
    handle: async ({ query, body, req, res }) => {
      const { by, tier, tenant, model } = query;
      if (by === undefined && hasBody(req)) {
        throw new RadixkvError('invalid_value', 'A body is taken with ?by=prefix only.', { param: 'by' });
      }
      if (model === EVERY_MODEL) requireAdminRole(res);
      else if (model !== undefined) served(service, { model });
      const asked: { readonly salt: string | undefined; readonly prompt?: ClearOrder['prompt'] } =
        by === undefined ? { salt: query.cache_salt } : prefixOf(await body());
      // Before they have nothing left by which they are known.
      const owners = ownersMeant(res, tenant, () => desk.owners());
      const parts = partsMeant(res, { tenant, salt: asked.salt }, desk);
      const { chunks, runs, inUse, runsInUse, pinned, shared } = desk.clear(parts, {
        tier,
        prompt: asked.prompt,
      });
      if (tier === undefined) {
        for (const owner of owners) for (const each of [recent, savings]) each.forgetTexts(owner);
      }
      const foreign = model === EVERY_MODEL && (tier ?? 'disk') === 'disk' ? desk.clearForeign() : 0;
      const answer: z.output<typeof cacheCleared> = {
        object: 'cache.cleared',
        tier: tier ?? null,
        chunks: chunks + foreign,
        runs,
        in_use: { chunks: inUse, runs: runsInUse },
        kept: { pinned, shared },
      };
      res.json(answer);
    },
  });
}
