/**
 * Errors in Anthropic's shape, of everything below /v1/messages. The status is the one that each code has everywhere;
 * Anthropic's type follows from it, and the code itself stands in `details`, where its clients look for codes.
 */
import type { RequestHandler } from 'express';
import type { RadixkvError } from '../errors.js';
import { requestIdOf } from './request-id.js';

export const MESSAGES_PATH = '/v1/messages';

const TYPES: ReadonlyMap<number, string> = new Map([
  [401, 'authentication_error'],
  [403, 'permission_error'],
  [404, 'not_found_error'],
  [413, 'request_too_large'],
  [429, 'rate_limit_error'],
  [503, 'overloaded_error'],
  [504, 'timeout_error'],
]);

function typeOf(status: number): string {
  return TYPES.get(status) ?? (status >= 500 ? 'api_error' : 'invalid_request_error');
}

export function messagesError({ status, code, message, param }: RadixkvError, requestId: string) {
  return {
    event: 'error',
    data: {
      type: 'error',
      error: { type: typeOf(status), message, details: { error_code: code, param: param ?? null } },
      request_id: requestId,
    },
  };
}

/** The request id under the name that Anthropic's clients read. */
export const messagesRequestId: RequestHandler = (_req, res, next) => {
  res.setHeader('request-id', requestIdOf(res));
  next();
};
