/**
 * The HTTP API as a value: routes, hardening, errors. It listens nowhere; server.ts does.
 *
 * Every response carries `x-request-id`, and every error is JSON: in Anthropic's shape below /v1/messages, else in OpenAI's.
 * Operations before `identify` are open to all; those behind it know who asks.
 */
import express, { type Express, type RequestHandler } from 'express';
import helmet from 'helmet';
import type { Logger } from 'pino';
import type { DocumentLibrary } from '../documents/library.js';
import { RadixkvError } from '../errors.js';
import type { History } from '../history/history.js';
import type { CompletionService } from '../serving/completion.js';
import type { Statistics } from '../serving/statistics.js';
import type { Tracing } from '../tracing/spans.js';
import { createBodyReader } from './body.js';
import { type CacheControls, cacheOperations } from './cache-routes.js';
import { createChatDialect } from './chat-dialect.js';
import { completionOperation } from './completion-route.js';
import { pageOperations } from './dashboard-route.js';
import { batchOperation } from './document-batch.js';
import { documentOperations } from './document-routes.js';
import { countErrors, openAiError, respondWithError } from './error-response.js';
import { type Access, identify } from './identity.js';
import { healthOperations, modelOperations } from './info-routes.js';
import { DEFAULT_LIMITS, type Limits } from './limits.js';
import { createMessagesDialect } from './messages-dialect.js';
import { MESSAGES_PATH, messagesError, messagesRequestId } from './messages-error.js';
import { documentOperation } from './openapi.js';
import { mount, type Operation } from './operation.js';
import { requestId } from './request-id.js';
import { requestLog } from './request-log.js';
import { traceRequests } from './request-span.js';
import { statisticsOperations } from './statistics-routes.js';
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
  /** Absent: nothing is traced. */
  readonly tracing?: Tracing;
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

const refusePath: RequestHandler = (req) => {
  throw new RadixkvError('not_found', `There is no ${req.method} ${req.path}.`);
};

/** All that the API can do with these parts. Where two paths match a request, the first one is meant. */
export function operationsOf({
  service,
  statistics,
  documents,
  controls,
  history,
  limits,
}: AppParts): Operation[] {
  const all = { ...DEFAULT_LIMITS, ...limits };
  const dialects = [createChatDialect(all), createTextDialect(all), createMessagesDialect(all)];
  const operations = [
    ...healthOperations(service, statistics),
    ...pageOperations(),
    ...dialects.map((dialect) => completionOperation({ dialect, service, statistics })),
    ...(documents === undefined
      ? []
      : [batchOperation(documents, all), ...documentOperations(documents, all)]),
    ...(controls === undefined ? [] : cacheOperations({ ...controls, documents, service, limits: all })),
    ...modelOperations(service),
    ...statisticsOperations(statistics, history),
  ];
  const own: Operation = documentOperation(() => [...operations, own]);
  return [own, ...operations];
}

export function createApp(parts: AppParts): Express {
  const { statistics, access, logger, tracing } = parts;
  const readBody = createBodyReader({ ...DEFAULT_LIMITS, ...parts.limits });
  const operations = operationsOf(parts);
  const app = express();
  app.disable('x-powered-by').disable('etag').set('query parser', 'simple');
  app.use(requestId);
  if (logger !== undefined) app.use(requestLog(logger));
  app.use(hardening());
  app.use(MESSAGES_PATH, messagesRequestId);

  const mountThose = (isOpen: boolean) => {
    const those = operations.filter((each) => (each.isOpen ?? false) === isOpen);
    mount(app, those, readBody);
  };
  mountThose(true);
  if (tracing !== undefined) app.use(traceRequests(tracing));
  app.use(identify(access));
  mountThose(false);

  app.use(refusePath);
  app.use(countErrors(statistics));
  app.use(MESSAGES_PATH, respondWithError(messagesError));
  app.use(respondWithError(openAiError));
  return app;
}
