/** Errors as a response or, once a stream has begun, as its last event; in OpenAI's shape unless a path has another. */
import type { ErrorRequestHandler } from 'express';
import { ERRORS, RadixkvError } from '../errors.js';
import type { Statistics } from '../serving/statistics.js';
import { requestIdOf } from './request-id.js';
import { endEventStream, type StreamEvent } from './sse.js';

/** An error as an event of a stream, whose data is also the body of an error response. */
export type ErrorShape = (error: RadixkvError, requestId: string) => StreamEvent;

const RETRY_AFTER_S = 1;

/** What the body parser and the router report, by their own names. Their messages may quote the body: not kept. */
function parserError(error: object): RadixkvError | undefined {
  const { type, status } = error as { readonly type?: unknown; readonly status?: unknown };
  switch (type) {
    case 'entity.too.large': {
      const { limit } = error as { readonly limit?: unknown };
      return new RadixkvError('body_too_large', `The request body is larger than ${String(limit)} bytes.`);
    }
    case 'encoding.unsupported':
      return new RadixkvError(
        'unsupported_media_type',
        'The compression of the request body is not supported.',
      );
    default:
      if (typeof status !== 'number' || status < 400 || status >= 500) return undefined;
      return new RadixkvError('malformed_request', 'The request could not be read.');
  }
}

/** Any thrown value as an error of the table; what nobody foresaw is `internal`, with the original as its cause. */
export function toRadixkvError(error: unknown): RadixkvError {
  if (error instanceof RadixkvError) return error;
  const known = typeof error === 'object' && error !== null ? parserError(error) : undefined;
  return known ?? new RadixkvError('internal', 'The server failed to process the request.', { cause: error });
}

export function modelNotFound(servedId: string): RadixkvError {
  return new RadixkvError('model_not_found', `The model does not exist; '${servedId}' is served.`, {
    param: 'model',
  });
}

/** The body of an error response, in OpenAI's shape. */
export function errorJson(error: RadixkvError) {
  return {
    error: {
      message: error.message,
      type: ERRORS[error.code].type,
      code: error.code,
      param: error.param ?? null,
    },
  };
}

export const openAiError: ErrorShape = (error) => ({ data: errorJson(error) });

/** Counts each error that will be answered, and passes it on. */
export function countErrors(statistics: Statistics): ErrorRequestHandler {
  return (thrown: unknown, _req, res, next) => {
    if (!res.destroyed && !res.writableEnded) statistics.countError(toRadixkvError(thrown).code);
    next(thrown);
  };
}

/** Express's last handler: answers every error that a route or a parser throws. */
export function respondWithError(shape: ErrorShape): ErrorRequestHandler {
  return (thrown: unknown, _req, res, _next) => {
    const error = toRadixkvError(thrown);
    if (error.status >= 500) res.err = error;
    if (res.destroyed || res.writableEnded) return;
    const event = shape(error, requestIdOf(res));
    if (res.headersSent) {
      endEventStream(res, event);
      return;
    }
    if (error.status === 429 || error.status === 503) {
      res.setHeader('retry-after', String(error.retryAfterS ?? RETRY_AFTER_S));
    }
    if (error.status === 401) res.setHeader('www-authenticate', 'Bearer');
    // The official clients retry any 5xx unless told otherwise.
    if (!ERRORS[error.code].retryable) res.setHeader('x-should-retry', 'false');
    res.status(error.status).json(event.data);
  };
}
