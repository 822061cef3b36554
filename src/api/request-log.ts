/**
 * One log line a request. It is built from a list of what may be said (method, path, status, request id, error), so
 * prompts, answers, query strings and credentials can't get in; nor can an API key that someone put in a path.
 */
import type { RequestHandler } from 'express';
import type { Logger } from 'pino';
import { pinoHttp } from 'pino-http';
import { withoutApiKeys } from '../tenants/api-key.js';
import { spanOf } from './request-span.js';

interface LoggedError extends Error {
  readonly code?: unknown;
}

function errorFields({ name, code, message, stack, cause }: LoggedError): object {
  return { name, code, message, stack, ...(cause instanceof Error ? { cause: errorFields(cause) } : {}) };
}

/** Logs each request to `logger` when its response ended: `info`, 4xx `warn`, 5xx and broken streams `error`. */
export function requestLog(logger: Logger): RequestHandler {
  return pinoHttp({
    logger,
    wrapSerializers: false,
    customProps: (_req, res) => {
      const span = spanOf(res);
      return span === undefined ? {} : { trace_id: span.traceId, span_id: span.spanId };
    },
    customLogLevel: (_req, res, error) => {
      if (error !== undefined || res.err !== undefined || res.statusCode >= 500) return 'error';
      return res.statusCode >= 400 ? 'warn' : 'info';
    },
    serializers: {
      req: ({ id, method, url }: { id: unknown; method: string; url: string }) => ({
        id,
        method,
        path: withoutApiKeys(url.split('?')[0]!),
      }),
      res: ({ statusCode }: { statusCode: number }) => ({ status: statusCode }),
      err: errorFields,
    },
  });
}
