/**
 * What requests went through: `GET /v1/requests`, those that ended last, and `GET /v1/cache/top`, what spares most.
 *
 * A tenant sees its own, an admin all, texts included. Texts are made of kept excerpts when somebody asks, and are null
 * where none are kept.
 */
import type { Response } from 'express';
import { z } from 'zod';
import type { CacheDesk } from '../control/cache-desk.js';
import type { ExcerptTexts } from '../control/divergence.js';
import { RadixkvError } from '../errors.js';
import type { PassageFinder } from '../serving/passages.js';
import type { RecentRequest, RecentRequests } from '../serving/recent-requests.js';
import type { Savings } from '../serving/savings.js';
import { secondsOf } from './fields.js';
import { identityOf } from './identity.js';
import { json, type Operation, operation } from './operation.js';
import { type recentRequest, recentRequests, requestDetails, topSavers } from './recent-answers.js';
import { recentQuery, type Saver, topQuery } from './recent-schema.js';
import { countsByTierJson } from './statistics-routes.js';
import { rounded } from './usage.js';

interface RouteParts {
  readonly desk: CacheDesk;
  readonly recent: RecentRequests;
  readonly savings: Savings;
  /** Absent: there are no stored documents. */
  readonly documents?: PassageFinder | undefined;
}

/** Characters of a document's text that are shown. */
const DOCUMENT_CHARACTERS = 120;

/** Whose requests somebody may see; undefined: everybody's. */
function visibleTo(res: Response): string | undefined {
  const { role, namespace } = identityOf(res);
  return role === 'admin' ? undefined : namespace;
}

function requestJson(request: RecentRequest): z.output<typeof recentRequest> {
  const { id, requestId, endpoint, tenant, model, outcome, error, report, course, counts } = request;
  const { prompt_tokens, cached_tokens, blended_tokens, computed_tokens, completion_tokens, by_tier } =
    countsByTierJson(counts);
  return {
    id,
    object: 'request',
    request_id: requestId,
    created_at: secondsOf(request.endedAtMs - request.wallMs),
    endpoint,
    tenant,
    model,
    outcome,
    error: error ?? null,
    finish_reasons: course?.finishReasons.map((reason) => reason ?? null) ?? [],
    prompt_tokens,
    cached_tokens,
    blended_tokens,
    computed_tokens,
    completion_tokens,
    by_tier,
    duration_ms: rounded(request.wallMs),
    ttft_ms: report === undefined || completion_tokens === 0 ? null : rounded(report.timings.ttftMs),
    spans: (course?.spans ?? []).map(({ phase, startMs, durationMs }) => ({
      phase,
      start_ms: rounded(startMs),
      duration_ms: rounded(durationMs),
    })),
    miss: course?.miss === undefined ? null : { token: course.miss.token, reason: course.miss.reason },
  };
}

function textsJson(texts: ExcerptTexts | undefined) {
  return {
    common_text: texts?.commonText ?? null,
    prompt_text: texts?.promptText ?? null,
    cached_text: texts?.cachedText ?? null,
    looks_like: texts?.looksLike ?? null,
  };
}

export function recentOperations({ desk, recent, savings, documents }: RouteParts): Operation[] {
  const prefixes = (limit: number, owner: string | undefined) =>
    savings.prefixes(limit, owner).map(({ detail: { tenant, start, tokens, excerpt }, ...saved }) => ({
      tenant,
      start,
      tokens,
      ...savedJson(saved),
      text: excerpt === undefined ? null : desk.textOf(excerpt),
    }));
  const stored = (limit: number, owner: string | undefined) =>
    savings.documents(limit, owner).map(({ detail, ...saved }) => {
      const passage = documents?.find(detail.owner, detail.id);
      return {
        tenant: detail.tenant,
        id: detail.id,
        ...savedJson(saved),
        text: passage?.text.slice(0, DOCUMENT_CHARACTERS) ?? null,
      };
    });
  const topJson = (by: Saver, limit: number, owner: string | undefined): z.output<typeof topSavers> =>
    by === 'prefix'
      ? { object: 'list', by, data: prefixes(limit, owner) }
      : { object: 'list', by, data: stored(limit, owner) };
  return [
    operation({
      id: 'listRequests',
      method: 'get',
      path: '/v1/requests',
      tag: 'statistics',
      summary: 'The requests that ended last, with what each went through. An admin sees those of all.',
      query: recentQuery,
      answers: { 200: json(recentRequests) },
      handle: ({ query: { limit }, res }) => {
        const data = recent.list(limit, visibleTo(res)).map(requestJson);
        const answer: z.output<typeof recentRequests> = { object: 'list', data };
        res.json(answer);
      },
    }),
    operation({
      id: 'getRequest',
      method: 'get',
      path: '/v1/requests/:id',
      tag: 'statistics',
      summary: 'One of the requests that ended last, with the texts where it missed.',
      params: z.object({ id: z.string().min(1) }),
      answers: { 200: json(requestDetails) },
      errors: ['not_found'],
      handle: ({ params: { id }, res }) => {
        const request = recent.get(id, visibleTo(res)) ?? refuseRequest(id);
        const told = requestJson(request);
        const miss = request.course?.miss;
        const texts = miss?.excerpt && desk.excerptTexts(miss, miss.excerpt);
        const answer: z.output<typeof requestDetails> = {
          ...told,
          miss: told.miss && { ...told.miss, ...textsJson(texts) },
        };
        res.json(answer);
      },
    }),
    operation({
      id: 'listTopSavers',
      method: 'get',
      path: '/v1/cache/top',
      tag: 'statistics',
      summary: 'The prefixes or documents that spared most tokens. An admin sees those of all.',
      query: topQuery,
      answers: { 200: json(topSavers) },
      handle: ({ query: { by, limit }, res }) => void res.json(topJson(by, limit, visibleTo(res))),
    }),
  ];
}

function refuseRequest(id: string): never {
  const message = `There is no request '${id}' among those that ended last.`;
  throw new RadixkvError('not_found', message, { param: 'id' });
}

function savedJson(saved: {
  readonly weight: number;
  readonly errorMax: number;
  readonly hits: number;
  readonly lastMs: number;
}) {
  const { weight, errorMax, hits, lastMs } = saved;
  return { tokens_saved: weight, tokens_saved_error: errorMax, hits, used_at: secondsOf(lastMs) };
}
