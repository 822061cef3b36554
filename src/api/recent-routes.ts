/**
 * What requests went through: `GET /v1/requests`, those that ended last, and `GET /v1/cache/top`, what spares most.
 *
 * A tenant sees its own, an admin all, texts included. Texts are made of kept excerpts when somebody asks, and are null
 * where none are kept.
 */
import type { RequestHandler, Response } from 'express';
import type { CacheDesk } from '../control/cache-desk.js';
import type { ExcerptTexts } from '../control/divergence.js';
import { RadixkvError } from '../errors.js';
import type { PassageFinder } from '../serving/passages.js';
import type { RecentRequest, RecentRequests } from '../serving/recent-requests.js';
import type { Savings } from '../serving/savings.js';
import { secondsOf } from './fields.js';
import { identityOf } from './identity.js';
import { recentQuery, topQuery } from './recent-schema.js';
import { countsByTierJson } from './statistics-routes.js';
import { rounded } from './usage.js';
import { validate } from './validate.js';

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

function requestJson(request: RecentRequest) {
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

export function recentList({ recent }: Pick<RouteParts, 'recent'>): RequestHandler {
  return (req, res) => {
    const { limit } = validate(recentQuery, req.query);
    res.json({ object: 'list', data: recent.list(limit, visibleTo(res)).map(requestJson) });
  };
}

/** One, with the texts where it missed. */
export function recentById({ desk, recent }: Pick<RouteParts, 'desk' | 'recent'>): RequestHandler {
  return (req, res) => {
    const id = String(req.params.id);
    const request = recent.get(id, visibleTo(res));
    if (request === undefined)
      throw new RadixkvError('not_found', `There is no request '${id}' among those that ended last.`, {
        param: 'id',
      });
    const json = requestJson(request);
    const miss = request.course?.miss;
    const texts = miss?.excerpt && desk.excerptTexts(miss, miss.excerpt);
    res.json({ ...json, miss: json.miss && { ...json.miss, ...textsJson(texts) } });
  };
}

export function topRoute({ desk, savings, documents }: RouteParts): RequestHandler {
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
  return (req, res) => {
    const { by, limit } = validate(topQuery, req.query);
    const owner = visibleTo(res);
    res.json({ object: 'list', by, data: by === 'prefix' ? prefixes(limit, owner) : stored(limit, owner) });
  };
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
