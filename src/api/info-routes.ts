/** The routes that only read: models, health, cache statistics, metrics. */
import type { RequestHandler } from 'express';
import type { CompletionService, ModelCard } from '../serving/completion.js';
import { createMetrics } from '../serving/metrics.js';
import type { Statistics, TierReading } from '../serving/statistics.js';
import { modelNotFound } from './error-response.js';

function modelJson({ id, created, contextTokens }: ModelCard) {
  return { id, object: 'model', created, owned_by: 'radixkv', max_model_len: contextTokens };
}

export function modelList({ model }: CompletionService): RequestHandler {
  return (_req, res) => {
    res.json({ object: 'list', data: [modelJson(model)] });
  };
}

/** The id may hold slashes, encoded or not. */
export function modelById({ model }: CompletionService): RequestHandler<{ id: string[] }> {
  return (req, res) => {
    if (req.params.id.join('/') !== model.id) throw modelNotFound(model.id);
    res.json(modelJson(model));
  };
}

/** The process runs and its event loop turns. */
export const live: RequestHandler = (_req, res) => {
  res.json({ status: 'live' });
};

export function readiness(service: CompletionService): RequestHandler {
  return (_req, res) => {
    const state = service.ready();
    if (state.ready) res.json({ status: 'ready' });
    else res.status(503).set('retry-after', '1').json({ status: 'not_ready', reason: state.reason });
  };
}

function tierJson(cachedTokens: number, tier: TierReading | undefined) {
  return {
    cached_tokens: cachedTokens,
    bytes: tier?.bytes ?? null,
    capacity_bytes: tier?.capacityBytes ?? null,
    chunks: tier?.chunks ?? null,
  };
}

export function cacheStats(statistics: Statistics): RequestHandler {
  return (_req, res) => {
    const { tokens, hitRate } = statistics;
    const { tiers, radixNodes, cachedChunks } = statistics.gauges();
    res.json({
      since: statistics.since.toISOString(),
      requests: {
        completed: statistics.requestsWith('completed'),
        aborted: statistics.requestsWith('aborted'),
        failed: statistics.requestsWith('failed'),
        refused: statistics.requestsWith('refused'),
      },
      prompt_tokens: tokens.prompt,
      cached_tokens: tokens.device + tokens.host,
      computed_tokens: tokens.computed,
      completion_tokens: tokens.completion,
      hit_rate: hitRate ?? null,
      by_tier: { device: tierJson(tokens.device, tiers.device), host: tierJson(tokens.host, tiers.host) },
      radix: { nodes: radixNodes ?? null, chunks: cachedChunks ?? null },
    });
  };
}

export function metrics(statistics: Statistics): RequestHandler {
  const source = createMetrics(statistics);
  return async (_req, res) => {
    res.set('content-type', source.contentType).send(await source.scrape());
  };
}
