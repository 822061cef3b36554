/**
 * A span for each request, in the words of OpenTelemetry's conventions for HTTP servers. It continues the trace of
 * `traceparent`; path and route are told, query strings and headers are not.
 */
import type { Request, RequestHandler, Response } from 'express';
import { withoutApiKeys } from '../tenants/api-key.js';
import type { TraceSpan, Tracing } from '../tracing/spans.js';
import { requestIdOf } from './request-id.js';

/** Of requests under way. */
const spans = new WeakMap<object, TraceSpan>();

/** Undefined: requests are not traced. */
export function spanOf(res: object): TraceSpan | undefined {
  return spans.get(res);
}

export function traceRequests(tracing: Tracing): RequestHandler {
  return (req, res, next) => {
    const span = tracing.begin(req.method, req.headers, {
      'http.request.method': req.method,
      'url.path': withoutApiKeys(req.path),
      'url.scheme': 'http',
      'network.protocol.version': req.httpVersion,
      'server.port': req.socket.localPort,
      'radixkv.request_id': requestIdOf(res),
    });
    spans.set(res, span);
    res.once('close', () => endSpan(span, req, res));
    next();
  };
}

function endSpan(span: TraceSpan, req: Request, res: Response): void {
  const route: unknown = req.route?.path;
  if (typeof route === 'string') {
    span.rename(`${req.method} ${route}`);
    span.set({ 'http.route': route });
  }
  const isCut = !res.writableFinished;
  if (!isCut || res.headersSent) span.set({ 'http.response.status_code': res.statusCode });
  if (res.err !== undefined) span.fail(codeOf(res.err));
  else if (res.statusCode >= 500) span.fail(String(res.statusCode));
  else if (isCut) span.set({ 'error.type': 'aborted' });
  span.end();
}

function codeOf(error: Error): string {
  return 'code' in error ? String(error.code) : error.name;
}
