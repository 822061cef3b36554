/** `/v1/cache/…`: what would hit and why not, computing ahead of time, pins, forgetting, the tree. Each API key sees its own. */
import type { Request, RequestHandler, Response } from 'express';
import { z } from 'zod';
import type { CacheEvents } from '../cache/cache-events.js';
import type { Archives } from '../control/archives.js';
import type { CacheDesk, LookupReading, NodeReading } from '../control/cache-desk.js';
import type { Divergence } from '../control/divergence.js';
import { isWhole, type PinReading, type Pins } from '../control/pins.js';
import type { Warming, WarmReading } from '../control/warming.js';
import { RadixkvError } from '../errors.js';
import { type CompletionService, tokensOf } from '../serving/completion.js';
import { exportRoute, importRoute } from './archive-routes.js';
import type { BodyReader } from './body.js';
import { cacheSalt } from './cache-schema.js';
import { clearRoute } from './clear-route.js';
import { eventsRoute } from './event-routes.js';
import { optional, queryNumber, secondsOf } from './fields.js';
import { holdingsRoute } from './holdings-route.js';
import { identityOf } from './identity.js';
import type { Limits } from './limits.js';
import { saltedNamespace } from './namespace.js';
import { promptFields, promptOf, requireOnePrompt } from './prompt-schema.js';
import { served } from './served-model.js';
import { sharedRoutes } from './shared-routes.js';
import { pinBody, warmBody } from './steering-schema.js';
import { validate } from './validate.js';

export interface CacheControls {
  readonly desk: CacheDesk;
  readonly warming: Warming;
  readonly pins: Pins;
  readonly archives: Archives;
  readonly events: CacheEvents;
}

interface RouteParts extends CacheControls {
  readonly service: CompletionService;
  readonly readBody: BodyReader;
  readonly limits: Limits;
}

const NODES_DEFAULT = 100;
const NODES_MAX = 1000;
/** Edges from the root to a node. */
const PLACE_MAX = 10_000;

const ownerOf = (res: Response): string => identityOf(res).namespace;
const idOf = (req: Request): string => String(req.params.id);

const model = z.string().describe('Id of the served model.');

function onePrompt(limits: Limits) {
  const salt = optional(cacheSalt(limits)).describe('That of the requests whose part of the cache is meant.');
  return z.strictObject({ model, ...promptFields(limits), cache_salt: salt }).superRefine(requireOnePrompt);
}

/** The part of a tenant's namespace that a salt names; all but the salted parts without one. */
const partOf = (res: Response, salt: string | undefined): string => saltedNamespace(ownerOf(res), salt);

function lookupJson({ promptTokens, cached }: LookupReading) {
  const cachedTokens = tokensOf(cached);
  return {
    prompt_tokens: promptTokens,
    cached_tokens: cachedTokens,
    computed_tokens: promptTokens - cachedTokens,
    by_tier: cached,
  };
}

function divergenceJson(divergence: Divergence | undefined) {
  if (divergence === undefined) return null;
  const { token, reason, message, commonText, promptText, cachedText, looksLike } = divergence;
  return {
    token,
    reason,
    message: message ?? null,
    common_text: commonText,
    prompt_text: promptText,
    cached_text: cachedText,
    looks_like: looksLike ?? null,
  };
}

function warmJson(reading: WarmReading) {
  const { id, status, createdAtMs, prompts, donePrompts, cachedTokens, computedTokens, failures } = reading;
  return {
    id,
    object: 'cache.warm',
    status,
    created_at: secondsOf(createdAtMs),
    progress: { done: donePrompts, prompts },
    cached_tokens: cachedTokens,
    computed_tokens: computedTokens,
    errors: failures,
  };
}

function pinJson(pin: PinReading) {
  const { id, createdAtMs, tokens, cached, ttlMs, priority } = pin;
  return {
    id,
    object: 'cache.pin',
    created_at: secondsOf(createdAtMs),
    tokens,
    cached_tokens: tokensOf(cached),
    whole: isWhole(pin),
    ttl_seconds: ttlMs === undefined ? null : ttlMs / 1000,
    priority: priority ?? null,
  };
}

function nodeJson({
  place,
  start,
  tokens,
  chunks,
  children,
  chunksBelow,
  inHost,
  onDisk,
  bytes,
  text,
}: NodeReading) {
  return {
    place: place.join('.'),
    start,
    tokens,
    chunks: chunks.length,
    chunks_host: inHost,
    chunks_disk: onDisk,
    bytes,
    children,
    chunks_below: chunksBelow,
    text,
  };
}

type Handlers<Name extends string> = Readonly<Record<Name, RequestHandler>>;

/** By path and method. */
export type CacheRoutes = Handlers<
  'lookup' | 'explain' | 'clear' | 'export' | 'import' | 'tenants' | 'tree' | 'events'
> & {
  readonly warm: Handlers<'post' | 'get' | 'delete'>;
  readonly pins: Handlers<'post' | 'list' | 'get' | 'delete'>;
  readonly shared: Handlers<'post' | 'list' | 'delete'>;
};

/** The handlers. */
export function cacheRoutes(parts: RouteParts): CacheRoutes {
  return {
    lookup: lookupRoute(parts),
    explain: explainRoute(parts),
    warm: warmRoutes(parts),
    pins: pinRoutes(parts),
    clear: clearRoute(parts),
    export: exportRoute(parts),
    import: importRoute(parts),
    tenants: holdingsRoute(parts.desk),
    shared: sharedRoutes(parts),
    tree: treeRoute(parts),
    events: eventsRoute(parts.events, parts.limits),
  };
}

function lookupRoute({ desk, service, readBody, limits }: RouteParts): RequestHandler {
  const schema = onePrompt(limits);
  return async (req, res) => {
    const body = served(service, validate(schema, await readBody(req, res)));
    const reading = desk.lookup({ ...promptOf(body), namespace: partOf(res, body.cache_salt) });
    res.json({ object: 'cache.lookup', ...lookupJson(reading) });
  };
}

function explainRoute({ desk, service, readBody, limits }: RouteParts): RequestHandler {
  const schema = onePrompt(limits);
  return async (req, res) => {
    const body = served(service, validate(schema, await readBody(req, res)));
    const reading = desk.explain({ ...promptOf(body), namespace: partOf(res, body.cache_salt) });
    res.json({
      object: 'cache.explanation',
      ...lookupJson(reading),
      divergence: divergenceJson(reading.divergence),
    });
  };
}

function warmRoutes({ desk, warming, service, readBody, limits }: RouteParts): CacheRoutes['warm'] {
  const schema = warmBody(limits);
  return {
    post: async (req, res) => {
      const { prompts, cache_salt } = served(service, validate(schema, await readBody(req, res)));
      const { namespace: owner, chargeTokens } = identityOf(res);
      const namespace = saltedNamespace(owner, cache_salt);
      const tokens = prompts.map((prompt, i) =>
        blaming(i, () => desk.encode({ ...promptOf(prompt), namespace })),
      );
      chargeTokens(tokens.reduce((sum, { length }) => sum + length, 0));
      res.status(202).json(warmJson(warming.create({ owner, namespace }, tokens)));
    },
    get: (req, res) => {
      res.json(warmJson(warming.get(ownerOf(res), idOf(req)) ?? refuseJob(idOf(req))));
    },
    delete: (req, res) => {
      res.json(warmJson(warming.cancel(ownerOf(res), idOf(req)) ?? refuseJob(idOf(req))));
    },
  };
}

function refuseJob(id: string): never {
  throw new RadixkvError('not_found', `There is no job '${id}'.`, { param: 'id' });
}

/** Errors name the prompt of the list that they are about. */
function blaming<T>(index: number, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof RadixkvError)) throw error;
    const param = `prompts[${index}]${error.param === undefined ? '' : `.${error.param}`}`;
    throw new RadixkvError(error.code, error.message, { param, cause: error });
  }
}

function pinRoutes({ desk, warming, pins, service, readBody, limits }: RouteParts): CacheRoutes['pins'] {
  const schema = pinBody(limits);
  return {
    post: async (req, res) => {
      const {
        ttl_seconds: ttl,
        priority,
        cache_salt,
        ...body
      } = served(service, validate(schema, await readBody(req, res)));
      const { namespace: owner, chargeTokens } = identityOf(res);
      const place = { owner, namespace: saltedNamespace(owner, cache_salt) };
      const tokens = desk.encode({ ...promptOf(body), namespace: place.namespace });
      chargeTokens(tokens.length);
      await warming.computed(place, tokens);
      const ttlMs = ttl === undefined ? undefined : ttl * 1000;
      res.status(201).json(pinJson(pins.create(place, tokens, { ttlMs, priority })));
    },
    list: (_req, res) => {
      res.json({ object: 'list', data: pins.list(ownerOf(res)).map(pinJson) });
    },
    get: (req, res) => {
      res.json(pinJson(pins.get(ownerOf(res), idOf(req)) ?? refusePin(idOf(req))));
    },
    delete: (req, res) => {
      const id = idOf(req);
      if (!pins.delete(ownerOf(res), id)) refusePin(id);
      res.json({ id, object: 'cache.pin', deleted: true });
    },
  };
}

function refusePin(id: string): never {
  throw new RadixkvError('not_found', `There is no pin '${id}'.`, { param: 'id' });
}

function treeRoute({ desk, limits }: RouteParts): RequestHandler {
  const number = /^\d{1,9}$/;
  const query = z.strictObject({
    cache_salt: cacheSalt(limits).optional(),
    place: z
      .string()
      .optional()
      .refine(
        (text = '') =>
          text === '' ||
          (text.split('.').length <= PLACE_MAX && text.split('.').every((part) => number.test(part))),
        'must be the place of a node',
      )
      .transform((text = '') => (text === '' ? [] : text.split('.').map(Number))),
    offset: queryNumber({ min: 0, max: 999_999_999, fallback: 0 }),
    limit: queryNumber({ min: 1, max: NODES_MAX, fallback: NODES_DEFAULT }),
  });
  return (req, res) => {
    const { place, offset, limit, cache_salt } = validate(query, req.query);
    const nodes = desk.outline(partOf(res, cache_salt), place);
    res.json({
      object: 'list',
      place: place.join('.'),
      data: nodes.slice(offset, offset + limit).map(nodeJson),
      total: nodes.length,
      has_more: offset + limit < nodes.length,
    });
  };
}
