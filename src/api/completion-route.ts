/**
 * One completion request over HTTP, in any dialect:
 *
 * 1. read and validate the body; a bad one ends here;
 * 2. hand it to the service, with a signal that fires when the client goes away;
 * 3. answer with one JSON body, or in a stream;
 * 4. count the request, once, before the client can see that it ended.
 */
import { randomUUID } from 'node:crypto';
import type { Response } from 'express';
import type { CompletionService } from '../serving/completion.js';
import type { Outcome, RequestRecord, Statistics } from '../serving/statistics.js';
import { type CompletionAsked, CompletionTrace } from '../tracing/completion-trace.js';
import { answerInStream, answerWhole } from './answer.js';
import type { Dialect, End, Parsed } from './dialect.js';
import { modelNotFound, toRadixkvError } from './error-response.js';
import { secondsOf } from './fields.js';
import { identityOf } from './identity.js';
import { saltedNamespace } from './namespace.js';
import { type Operation, operation } from './operation.js';
import { PROMPT_ERRORS } from './prompt-schema.js';
import { requestIdOf } from './request-id.js';
import { spanOf } from './request-span.js';

/** Fires when the connection goes away before the whole answer was handed to it. */
function clientGone(res: Response): AbortSignal {
  const aborter = new AbortController();
  res.once('close', () => {
    if (!res.writableFinished) aborter.abort();
  });
  return aborter.signal;
}

/** Does the work of a completion, within a span of its own where the request has one that is recorded. */
async function traced(
  res: Response,
  asked: CompletionAsked & { readonly signal: AbortSignal },
  work: (trace: CompletionTrace | undefined) => Promise<void>,
): Promise<void> {
  const span = spanOf(res);
  if (span?.isRecorded !== true) {
    await work(undefined);
    return;
  }
  const trace = new CompletionTrace(span, asked);
  let failure: unknown;
  try {
    await work(trace);
  } catch (error) {
    failure = error;
    throw error;
  } finally {
    trace.end({ error: failure, isAborted: asked.signal.aborted });
  }
}

export function completionOperation({
  dialect,
  service,
  statistics,
}: {
  readonly dialect: Dialect;
  readonly service: CompletionService;
  readonly statistics: Statistics;
}): Operation {
  const serve = async (
    { parsed, res, id, signal }: { parsed: Parsed; res: Response; id: string; signal: AbortSignal },
    onEnd: (end: End, n: number) => void,
  ) => {
    const { model } = service;
    if (parsed.model !== model.id) throw modelNotFound(model.id);
    const { namespace: tenant, chargeTokens } = identityOf(res);
    const namespace = saltedNamespace(tenant, parsed.cacheSalt);
    const head = { id, created: secondsOf(Date.now()), model };
    const answer = parsed.stream ? answerInStream : answerWhole;
    await traced(res, { ...parsed, endpoint: dialect.endpoint, id, signal }, async (trace) => {
      const asked = { ...parsed.work, id, tenant, namespace, chargeTokens, signal, ...(trace && { trace }) };
      const answered = service.complete(asked);
      const events = trace === undefined ? answered : trace.watch(answered);
      await answer({ dialect, parsed, events, signal, res, head, onEnd: (end) => onEnd(end, parsed.work.n) });
    });
  };
  return operation({
    ...dialect.operation,
    method: 'post',
    path: dialect.path,
    tag: 'completions',
    body: dialect.body,
    answers: {
      200: {
        description: 'The answer; in events with `stream`.',
        content: { 'application/json': dialect.answers.whole, 'text/event-stream': dialect.answers.event },
      },
    },
    errors: [...PROMPT_ERRORS, 'document_not_found', 'deadline_exceeded'],
    example: { body: { model: service.model.id, ...dialect.example } },
    handle: async ({ body, res }) => {
      const startedAt = performance.now();
      const signal = clientGone(res);
      const id = `${dialect.idPrefix}${randomUUID().replaceAll('-', '')}`;
      let said: Pick<RequestRecord, 'report' | 'course' | 'error'> = {};
      let outcome: Outcome = 'completed';
      try {
        await serve({ parsed: await body(), res, id, signal }, ({ usage, timings, course }, choices) => {
          said = { report: { usage, timings, choices }, ...(course && { course }) };
        });
      } catch (error) {
        const { status, code } = toRadixkvError(error);
        outcome = status < 500 ? 'refused' : 'failed';
        said = { ...said, error: code };
        throw error;
      } finally {
        if (signal.aborted) outcome = 'aborted';
        const { tenant, namespace: owner } = identityOf(res);
        statistics.record({
          id,
          requestId: requestIdOf(res),
          endpoint: dialect.endpoint,
          tenant,
          owner,
          model: service.model.id,
          outcome,
          ...said,
          wallMs: performance.now() - startedAt,
        });
      }
    },
  });
}
