/**
 * The HTTP API as a value: routes, hardening, errors. It listens nowhere; server.ts does.
 *
 * Every response carries `x-request-id`, and every error is JSON: in Anthropic's shape below /v1/messages, else in OpenAI's.
 * Routes before `identify` are open to all; those behind it know who asks.
 */
import express, { type Express, type RequestHandler } from 'express';
import helmet from 'helmet';
import type { Logger } from 'pino';
import type { DocumentLibrary } from '../documents/library.js';
import { RadixkvError } from '../errors.js';
import type { History } from '../history/history.js';
import type { CompletionService } from '../serving/completion.js';
import type { Statistics } from '../serving/statistics.js';
import { createBodyReader } from './body.js';
import { type CacheControls, type CacheRoutes, cacheRoutes } from './cache-routes.js';
import { createChatDialect } from './chat-dialect.js';
import { completionRoute } from './completion-route.js';
import { dashboard } from './dashboard-route.js';
import { batchRoute } from './document-batch.js';
import { documentById, documentList } from './document-routes.js';
import { openAiError, respondWithError } from './error-response.js';
import { type Access, identify } from './identity.js';
import { live, metrics, modelById, modelList, readiness } from './info-routes.js';
import { DEFAULT_LIMITS, type Limits } from './limits.js';
import { createMessagesDialect } from './messages-dialect.js';
import { MESSAGES_PATH, messagesError, messagesRequestId } from './messages-error.js';
import { requestId } from './request-id.js';
import { requestLog } from './request-log.js';
import { cacheStats, cacheStatsHistory } from './statistics-routes.js';
import { createTextDialect } from './text-dialect.js';

export interface AppParts {
  readonly service: CompletionService;
  readonly statistics: Statistics;
  /** Absent: there are no stored documents, nor their paths. */
  readonly documents?: DocumentLibrary;
  /** Absent: the cache can't be steered, and there are no paths for it. */
  readonly controls?: CacheControls;
  /** Absent: there are no statistics over time, nor by group. */
  readonly history?: History;
  /** Absent: nobody needs a key. */
  readonly access?: Access;
  /** Absent: nothing is logged. */
  readonly logger?: Logger;
  readonly limits?: Partial<Limits>;
}

/** Headers for an API on plain http: nothing that would send a browser to https. */
function hardening(): RequestHandler {
  return helmet({
    strictTransportSecurity: false,
    contentSecurityPolicy: {
      directives: { upgradeInsecureRequests: null, styleSrc: ["'self'"], fontSrc: ["'none'"] },
    },
  });
}

function refuseMethod(allowed: string): RequestHandler {
  return (req, res) => {
    res.setHeader('allow', allowed);
    throw new RadixkvError('method_not_allowed', `${req.method} is not allowed here; use ${allowed}.`);
  };
}

const refusePath: RequestHandler = (req) => {
  throw new RadixkvError('not_found', `There is no ${req.method} ${req.path}.`);
};

function addCacheRoutes(app: Express, routes: CacheRoutes): void {
  const { lookup, explain, warm, pins, clear, tree, events } = routes;
  app.route('/v1/cache').delete(clear).all(refuseMethod('DELETE'));
  app.route('/v1/cache/lookup').post(lookup).all(refuseMethod('POST'));
  app.route('/v1/cache/explain').post(explain).all(refuseMethod('POST'));
  app.route('/v1/cache/warm').post(warm.post).all(refuseMethod('POST'));
  app.route('/v1/cache/warm/:id').get(warm.get).delete(warm.delete).all(refuseMethod('GET, DELETE'));
  app.route('/v1/cache/pins').get(pins.list).post(pins.post).all(refuseMethod('GET, POST'));
  app.route('/v1/cache/pins/:id').get(pins.get).delete(pins.delete).all(refuseMethod('GET, DELETE'));
  app.route('/v1/cache/export').post(routes.export).all(refuseMethod('POST'));
  app.route('/v1/cache/import').post(routes.import).all(refuseMethod('POST'));
  const { shared } = routes;
  app.route('/v1/cache/shared').get(shared.list).post(shared.post).all(refuseMethod('GET, POST'));
  app.route('/v1/cache/shared/:id').delete(shared.delete).all(refuseMethod('DELETE'));
  app.route('/v1/cache/tenants').get(routes.tenants).all(refuseMethod('GET'));
  app.route('/v1/cache/tree').get(tree).all(refuseMethod('GET'));
  app.route('/v1/cache/events').get(events).all(refuseMethod('GET'));
}

export function createApp(parts: AppParts): Express {
  const { service, statistics, documents, controls, history, access, logger, limits: overrides } = parts;
  const limits = { ...DEFAULT_LIMITS, ...overrides };
  const readBody = createBodyReader(limits);
  const app = express();
  app.disable('x-powered-by').disable('etag').set('query parser', 'simple');
  app.use(requestId);
  if (logger !== undefined) app.use(requestLog(logger));
  app.use(hardening());
  app.use(MESSAGES_PATH, messagesRequestId);

  app.route('/health/live').get(live).all(refuseMethod('GET'));
  app.route('/health/ready').get(readiness(service)).all(refuseMethod('GET'));
  app.route('/metrics').get(metrics(statistics)).all(refuseMethod('GET'));

  const { page, file } = dashboard();
  app.route('/dashboard').get(page).all(refuseMethod('GET'));
  app.route('/dashboard/*path').get(file).all(refuseMethod('GET'));

  app.use(identify(access));
  for (const dialect of [
    createChatDialect(limits),
    createTextDialect(limits),
    createMessagesDialect(limits),
  ]) {
    app
      .route(dialect.path)
      .post(completionRoute({ dialect, service, statistics, readBody }))
      .all(refuseMethod('POST'));
  }
  if (documents !== undefined) {
    const byId = documentById({ library: documents, readBody, limits });
    app.route('/v1/documents').get(documentList(documents)).all(refuseMethod('GET'));
    app.post('/v1/documents/batch', batchRoute(documents, limits));
    app
      .route('/v1/documents/:id')
      .get(byId.get)
      .put(byId.put)
      .delete(byId.delete)
      .all(refuseMethod('GET, PUT, DELETE'));
  }
  if (controls !== undefined) addCacheRoutes(app, cacheRoutes({ ...controls, service, readBody, limits }));
  app.route('/v1/models').get(modelList(service)).all(refuseMethod('GET'));
  app.route('/v1/models/*id').get(modelById(service)).all(refuseMethod('GET'));
  app.route('/v1/cache/stats').get(cacheStats(statistics, history)).all(refuseMethod('GET'));
  if (history !== undefined) {
    app.route('/v1/cache/stats/history').get(cacheStatsHistory(history)).all(refuseMethod('GET'));
  }

  app.use(refusePath);
  app.use(MESSAGES_PATH, respondWithError(messagesError));
  app.use(respondWithError(openAiError));
  return app;
}
