/** The routes that only read: models, health, metrics. For statistics see statistics-routes.ts. */
import type { RequestHandler } from 'express';
import type { CompletionService, ModelCard } from '../serving/completion.js';
import { createMetrics } from '../serving/metrics.js';
import type { Statistics } from '../serving/statistics.js';
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

export function metrics(statistics: Statistics): RequestHandler {
  const source = createMetrics(statistics);
  return async (_req, res) => {
    res.set('content-type', source.contentType).send(await source.scrape());
  };
}
