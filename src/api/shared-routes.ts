/** `/v1/cache/shared`: public texts, whose KV all tenants read that want to. Only admins declare them. */
import type { RequestHandler } from 'express';
import { SHARED_NAMESPACE } from '../cache/shared-namespace.js';
import type { CacheDesk } from '../control/cache-desk.js';
import { isWhole, type PinReading, type Pins } from '../control/pins.js';
import type { Warming } from '../control/warming.js';
import { RadixkvError } from '../errors.js';
import { type CompletionService, tokensOf } from '../serving/completion.js';
import type { BodyReader } from './body.js';
import { secondsOf } from './fields.js';
import { requireAdminRole } from './identity.js';
import type { Limits } from './limits.js';
import { promptOf } from './prompt-schema.js';
import { served } from './served-model.js';
import { sharedBody } from './steering-schema.js';
import { validate } from './validate.js';

interface SharedRouteParts {
  readonly desk: CacheDesk;
  readonly warming: Warming;
  readonly pins: Pins;
  readonly service: CompletionService;
  readonly readBody: BodyReader;
  readonly limits: Limits;
}

const PLACE = { owner: SHARED_NAMESPACE, namespace: SHARED_NAMESPACE };

const FOR_GOOD = { ttlMs: undefined, priority: undefined };

function sharedJson(pin: PinReading) {
  const { id, createdAtMs, tokens, cached } = pin;
  return {
    id,
    object: 'cache.shared',
    created_at: secondsOf(createdAtMs),
    tokens,
    cached_tokens: tokensOf(cached),
    whole: isWhole(pin),
  };
}

/** The handlers, by method. */
export function sharedRoutes({
  desk,
  warming,
  pins,
  service,
  readBody,
  limits,
}: SharedRouteParts): Readonly<Record<'post' | 'list' | 'delete', RequestHandler>> {
  const schema = sharedBody(limits);
  return {
    post: async (req, res) => {
      requireAdminRole(res);
      const body = served(service, validate(schema, await readBody(req, res)));
      // Whole chunks only: nothing that an answer adds is ever kept with them.
      const tokens = pins.wholeChunks(desk.encodePrefix({ ...promptOf(body), namespace: SHARED_NAMESPACE }));
      await warming.computed(PLACE, tokens);
      res.status(201).json(sharedJson(pins.create(PLACE, tokens, FOR_GOOD)));
    },
    list: (_req, res) => {
      requireAdminRole(res);
      res.json({ object: 'list', data: pins.list(SHARED_NAMESPACE).map(sharedJson) });
    },
    delete: (req, res) => {
      requireAdminRole(res);
      const id = String(req.params.id);
      if (!pins.delete(SHARED_NAMESPACE, id, { isForgotten: true }))
        throw new RadixkvError('not_found', `There is no shared text '${id}'.`, { param: 'id' });
      res.json({ id, object: 'cache.shared', deleted: true });
    },
  };
}
