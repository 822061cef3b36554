/** What only reads: models, health, metrics. For statistics see statistics-routes.ts. */
import { z } from 'zod';
import type { CompletionService, ModelCard } from '../serving/completion.js';
import { createMetrics } from '../serving/metrics.js';
import type { Statistics } from '../serving/statistics.js';
import { modelNotFound } from './error-response.js';
import { liveAnswer, model, modelPage, notReadyAnswer, readyAnswer } from './info-answers.js';
import { json, type Operation, operation } from './operation.js';

function modelJson({ id, created, contextTokens }: ModelCard): z.output<typeof model> {
  return { id, object: 'model', created, owned_by: 'radixkv', max_model_len: contextTokens };
}

export function modelOperations({ model: card }: CompletionService): Operation[] {
  return [
    operation({
      id: 'listModels',
      method: 'get',
      path: '/v1/models',
      tag: 'models',
      summary: 'The served model, as a list.',
      answers: { 200: json(modelPage) },
      handle: ({ res }) => void res.json({ object: 'list', data: [modelJson(card)] }),
    }),
    operation({
      id: 'getModel',
      method: 'get',
      path: '/v1/models/*id',
      tag: 'models',
      summary: 'A model. The id may hold slashes, encoded or not.',
      params: z.object({ id: z.array(z.string()).transform((parts) => parts.join('/')) }),
      answers: { 200: json(model) },
      errors: ['model_not_found'],
      example: { params: { id: card.id } },
      handle: ({ params, res }) => {
        if (params.id !== card.id) throw modelNotFound(card.id);
        res.json(modelJson(card));
      },
    }),
  ];
}

/** Open to all. */
export function healthOperations(service: CompletionService, statistics: Statistics): Operation[] {
  const source = createMetrics(statistics);
  return [
    operation({
      id: 'getLiveness',
      method: 'get',
      path: '/health/live',
      tag: 'server',
      summary: 'The process runs and its event loop turns.',
      isOpen: true,
      answers: { 200: json(liveAnswer) },
      handle: ({ res }) => void res.json({ status: 'live' }),
    }),
    operation({
      id: 'getReadiness',
      method: 'get',
      path: '/health/ready',
      tag: 'server',
      summary: 'Whether completions would be taken now.',
      isOpen: true,
      answers: { 200: json(readyAnswer), 503: json(notReadyAnswer, 'They would not.') },
      handle: ({ res }) => {
        const state = service.ready();
        if (state.ready) res.json({ status: 'ready' });
        else res.status(503).set('retry-after', '1').json({ status: 'not_ready', reason: state.reason });
      },
    }),
    operation({
      id: 'getMetrics',
      method: 'get',
      path: '/metrics',
      tag: 'server',
      summary: 'Metrics for Prometheus.',
      isOpen: true,
      answers: { 200: { description: 'The metrics.', content: { 'text/plain': z.string() } } },
      handle: async ({ res }) => {
        res.set('content-type', source.contentType).send(await source.scrape());
      },
    }),
  ];
}
