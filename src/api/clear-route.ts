/**
 * `DELETE /v1/cache`: forgets what is cached, of a tenant, a prefix, a model, in a tier.
 *
 * A prompt comes as a body, which some proxies drop from a DELETE. So it is announced in the query (`by=prefix`): a
 * request whose body got lost is refused, and does not forget everything.
 */
import type { Request, RequestHandler, Response } from 'express';
import type { CacheDesk, ClearOrder } from '../control/cache-desk.js';
import { RadixkvError } from '../errors.js';
import type { CompletionService } from '../serving/completion.js';
import type { BodyReader } from './body.js';
import { clearBody, clearQuery, EVERY_MODEL } from './clear-schema.js';
import { requireAdminRole } from './identity.js';
import type { Limits } from './limits.js';
import { promptOf } from './prompt-schema.js';
import { served } from './served-model.js';
import { partsMeant } from './tenant-scope.js';
import { validate } from './validate.js';

interface ClearParts {
  readonly desk: CacheDesk;
  readonly service: CompletionService;
  readonly readBody: BodyReader;
  readonly limits: Limits;
}

const hasBody = (req: Request): boolean =>
  req.get('transfer-encoding') !== undefined || Number(req.get('content-length') ?? 0) > 0;

export function clearRoute({ desk, service, readBody, limits }: ClearParts): RequestHandler {
  const [querySchema, bodySchema] = [clearQuery(limits), clearBody(limits)];

  const readPrefix = async (req: Request, res: Response) => {
    const { cache_salt: salt, ...body } = served(service, validate(bodySchema, await readBody(req, res)));
    // The namespace of a prompt without documents changes none of its tokens.
    return { salt, prompt: { ...promptOf(body), namespace: '' } };
  };

  return async (req, res) => {
    const query = validate(querySchema, req.query);
    const { by, tier, tenant, model } = query;
    if (by === undefined && hasBody(req)) {
      throw new RadixkvError('invalid_value', 'A body is taken with ?by=prefix only.', { param: 'by' });
    }
    if (model === EVERY_MODEL) requireAdminRole(res);
    else if (model !== undefined) served(service, { model });
    const asked: { readonly salt: string | undefined; readonly prompt?: ClearOrder['prompt'] } =
      by === undefined ? { salt: query.cache_salt } : await readPrefix(req, res);
    const parts = partsMeant(res, { tenant, salt: asked.salt }, desk);
    const { chunks, runs, inUse, runsInUse, pinned, shared } = desk.clear(parts, {
      tier,
      prompt: asked.prompt,
    });
    const foreign = model === EVERY_MODEL && (tier ?? 'disk') === 'disk' ? desk.clearForeign() : 0;
    res.json({
      object: 'cache.cleared',
      tier: tier ?? null,
      chunks: chunks + foreign,
      runs,
      in_use: { chunks: inUse, runs: runsInUse },
      kept: { pinned, shared },
    });
  };
}
