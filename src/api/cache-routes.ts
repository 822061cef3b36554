/** `/v1/cache/…`: what would hit and why not, computing ahead of time, pins, forgetting, the tree. Each API key sees its own. */
import type { Response } from 'express';
import { z } from 'zod';
import type { CacheEvents } from '../cache/cache-events.js';
import type { Archives } from '../control/archives.js';
import type { CacheDesk, LookupReading, NodeReading } from '../control/cache-desk.js';
import type { Divergence } from '../control/divergence.js';
import { isWhole, type PinReading, type Pins } from '../control/pins.js';
import type { Warming, WarmReading } from '../control/warming.js';
import { RadixkvError } from '../errors.js';
import { type CompletionService, tokensOf } from '../serving/completion.js';
import type { PassageFinder } from '../serving/passages.js';
import type { RecentRequests } from '../serving/recent-requests.js';
import type { Savings } from '../serving/savings.js';
import { exportOperation, importOperation } from './archive-routes.js';
import {
  cacheExplanation,
  cacheLookup,
  pin as pinAnswer,
  pinDeleted,
  pinList,
  type treeNode,
  treePage,
  warmJob,
} from './cache-answers.js';
import { clearOperation } from './clear-route.js';
import { eventsOperation } from './event-routes.js';
import { secondsOf } from './fields.js';
import { holdingsOperation } from './holdings-route.js';
import { identityOf } from './identity.js';
import type { Limits } from './limits.js';
import { saltedNamespace } from './namespace.js';
import { json, type Operation, operation } from './operation.js';
import { EXAMPLE_PROMPT, PROMPT_ERRORS, promptOf, served } from './prompt-schema.js';
import { recentOperations } from './recent-routes.js';
import { sharedOperations } from './shared-routes.js';
import { lookupBody, pinBody, treeQuery, warmBody } from './steering-schema.js';

export interface CacheControls {
  readonly desk: CacheDesk;
  readonly warming: Warming;
  readonly pins: Pins;
  readonly archives: Archives;
  readonly events: CacheEvents;
  readonly recent: RecentRequests;
  readonly savings: Savings;
}

interface RouteParts extends CacheControls {
  /** Absent: there are no stored documents. */
  readonly documents?: PassageFinder | undefined;
  readonly service: CompletionService;
  readonly limits: Limits;
}

const ownerOf = (res: Response): string => identityOf(res).namespace;

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

function divergenceJson(divergence: Divergence | undefined): z.output<typeof cacheExplanation>['divergence'] {
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

function warmJson(reading: WarmReading): z.output<typeof warmJob> {
  const { id, status, createdAtMs, prompts, donePrompts, cachedTokens, computedTokens, failures } = reading;
  return {
    id,
    object: 'cache.warm',
    status,
    created_at: secondsOf(createdAtMs),
    progress: { done: donePrompts, prompts },
    cached_tokens: cachedTokens,
    computed_tokens: computedTokens,
    errors: [...failures],
  };
}

function pinJson(pin: PinReading): z.output<typeof pinAnswer> {
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
}: NodeReading): z.output<typeof treeNode> {
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

const exampleOf = ({ model: { id } }: CompletionService) => ({
  model: id,
  messages: [{ role: 'system', content: EXAMPLE_PROMPT }],
});

/** Of jobs and pins: the server made it. */
const byId = z.object({ id: z.string().min(1) });

export function cacheOperations(parts: RouteParts): Operation[] {
  return [
    lookupOperation(parts),
    explainOperation(parts),
    ...warmOperations(parts),
    ...pinOperations(parts),
    clearOperation(parts),
    exportOperation(parts),
    importOperation(parts),
    holdingsOperation(parts.desk),
    ...sharedOperations(parts),
    treeOperation(parts),
    eventsOperation(parts.events, parts.limits),
    ...recentOperations(parts),
  ];
}

function lookupOperation({ desk, service, limits }: RouteParts): Operation {
  return operation({
    id: 'lookupCache',
    method: 'post',
    path: '/v1/cache/lookup',
    tag: 'cache',
    summary: 'What a request with this prompt would find now.',
    body: lookupBody(limits),
    answers: { 200: json(cacheLookup) },
    errors: PROMPT_ERRORS,
    example: { body: exampleOf(service) },
    handle: async ({ body, res }) => {
      const asked = served(service, await body());
      const reading = await desk.lookup({ ...promptOf(asked), namespace: partOf(res, asked.cache_salt) });
      const answer: z.output<typeof cacheLookup> = { object: 'cache.lookup', ...lookupJson(reading) };
      res.json(answer);
    },
  });
}

function explainOperation({ desk, service, limits }: RouteParts): Operation {
  return operation({
    id: 'explainCache',
    method: 'post',
    path: '/v1/cache/explain',
    tag: 'cache',
    summary: 'Where a prompt leaves what is cached, and what stands there instead.',
    body: lookupBody(limits),
    answers: { 200: json(cacheExplanation) },
    errors: PROMPT_ERRORS,
    example: { body: exampleOf(service) },
    handle: async ({ body, res }) => {
      const asked = served(service, await body());
      const reading = await desk.explain({ ...promptOf(asked), namespace: partOf(res, asked.cache_salt) });
      const answer: z.output<typeof cacheExplanation> = {
        object: 'cache.explanation',
        ...lookupJson(reading),
        divergence: divergenceJson(reading.divergence),
      };
      res.json(answer);
    },
  });
}

function warmOperations({ desk, warming, service, limits }: RouteParts): Operation[] {
  const job = { path: '/v1/cache/warm/:id', tag: 'cache', params: byId, errors: ['not_found'] } as const;
  return [
    operation({
      id: 'warmCache',
      method: 'post',
      path: '/v1/cache/warm',
      tag: 'cache',
      summary: 'Has prompts computed ahead of time, after all requests.',
      body: warmBody(limits),
      answers: { 202: json(warmJob, 'The job waits for its turn.') },
      errors: PROMPT_ERRORS,
      example: { body: { model: service.model.id, prompts: [{ prompt: EXAMPLE_PROMPT }] } },
      handle: async ({ body, res }) => {
        const { prompts, cache_salt } = served(service, await body());
        const { namespace: owner, chargeTokens } = identityOf(res);
        const namespace = saltedNamespace(owner, cache_salt);
        const tokens = prompts.map((prompt, i) =>
          blaming(i, () => desk.encode({ ...promptOf(prompt), namespace })),
        );
        chargeTokens(tokens.reduce((sum, { length }) => sum + length, 0));
        res.status(202).json(warmJson(warming.create({ owner, namespace }, tokens)));
      },
    }),
    operation({
      ...job,
      id: 'getWarmJob',
      method: 'get',
      summary: 'How far a job is.',
      answers: { 200: json(warmJob) },
      handle: ({ params: { id }, res }) =>
        void res.json(warmJson(warming.get(ownerOf(res), id) ?? refuseJob(id))),
    }),
    operation({
      ...job,
      id: 'cancelWarmJob',
      method: 'delete',
      summary: 'Cancels what is left of a job.',
      answers: { 200: json(warmJob) },
      handle: ({ params: { id }, res }) =>
        void res.json(warmJson(warming.cancel(ownerOf(res), id) ?? refuseJob(id))),
    }),
  ];
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

function pinOperations({ desk, warming, pins, service, limits }: RouteParts): Operation[] {
  const onePin = { path: '/v1/cache/pins/:id', tag: 'cache', params: byId, errors: ['not_found'] } as const;
  return [
    operation({
      id: 'createPin',
      method: 'post',
      path: '/v1/cache/pins',
      tag: 'cache',
      summary: 'Computes a prompt if need be, and keeps its KV from eviction.',
      body: pinBody(limits),
      answers: { 201: json(pinAnswer, 'It is computed and pinned.') },
      errors: [...PROMPT_ERRORS, 'not_cached', 'pins_full'],
      example: { body: { ...exampleOf(service), ttl_seconds: 60 } },
      handle: async ({ body, res }) => {
        const { ttl_seconds: ttl, priority, cache_salt, ...asked } = served(service, await body());
        const { namespace: owner, chargeTokens } = identityOf(res);
        const place = { owner, namespace: saltedNamespace(owner, cache_salt) };
        const tokens = desk.encode({ ...promptOf(asked), namespace: place.namespace });
        chargeTokens(tokens.length);
        await warming.computed(place, tokens);
        const ttlMs = ttl === undefined ? undefined : ttl * 1000;
        res.status(201).json(pinJson(pins.create(place, tokens, { ttlMs, priority })));
      },
    }),
    operation({
      id: 'listPins',
      method: 'get',
      path: '/v1/cache/pins',
      tag: 'cache',
      summary: 'The pins of the key.',
      answers: { 200: json(pinList) },
      handle: ({ res }) => {
        const answer: z.output<typeof pinList> = {
          object: 'list',
          data: pins.list(ownerOf(res)).map(pinJson),
        };
        res.json(answer);
      },
    }),
    operation({
      ...onePin,
      id: 'getPin',
      method: 'get',
      summary: 'A pin, and what is there of it.',
      answers: { 200: json(pinAnswer) },
      handle: ({ params: { id }, res }) =>
        void res.json(pinJson(pins.get(ownerOf(res), id) ?? refusePin(id))),
    }),
    operation({
      ...onePin,
      id: 'deletePin',
      method: 'delete',
      summary: 'Ends a pin.',
      answers: { 200: json(pinDeleted) },
      handle: ({ params: { id }, res }) => {
        if (!pins.delete(ownerOf(res), id)) refusePin(id);
        res.json({ id, object: 'cache.pin', deleted: true });
      },
    }),
  ];
}

function refusePin(id: string): never {
  throw new RadixkvError('not_found', `There is no pin '${id}'.`, { param: 'id' });
}

function treeOperation({ desk, limits }: RouteParts): Operation {
  return operation({
    id: 'listTree',
    method: 'get',
    path: '/v1/cache/tree',
    tag: 'cache',
    summary: 'The nodes right below a place of the tree of cached prompts, the largest first.',
    query: treeQuery(limits),
    answers: { 200: json(treePage) },
    handle: ({ query: { place: at = [], offset, limit, cache_salt }, res }) => {
      const nodes = desk.outline(partOf(res, cache_salt), at);
      const answer: z.output<typeof treePage> = {
        object: 'list',
        place: at.join('.'),
        data: nodes.slice(offset, offset + limit).map(nodeJson),
        total: nodes.length,
        has_more: offset + limit < nodes.length,
      };
      res.json(answer);
    },
  });
}
