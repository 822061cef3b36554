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
import type { Outcome, Statistics } from '../serving/statistics.js';
import { type CompletionAsked, CompletionTrace } from '../tracing/completion-trace.js';
import { answerInStream, answerWhole } from './answer.js';
import type { Dialect, End, Parsed } from './dialect.js';
import { modelNotFound, toRadixkvError } from './error-response.js';
import { secondsOf } from './fields.js';
import { identityOf } from './identity.js';
import { saltedNamespace } from './namespace.js';
import { type Operation, operation } from './operation.js';
import { PROMPT_ERRORS } from './prompt-schema.js';
import { spanOf } from './request-span.js';

/** Fires when the connection goes away before the whole answer was handed to it. */
function clientGone(res: Response): AbortSignal {
  const aborter = new AbortController();
  res.once('close', () => {
    if (!res.writableFinished) aborter.abort();
  });
  return aborter.signal;
}

function outcomeOf(error: unknown): Outcome {
  return toRadixkvError(error).status < 500 ? 'refused' : 'failed';
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
    parsed: Parsed,
    res: Response,
    signal: AbortSignal,
    onEnd: (end: End, n: number) => void,
  ) => {
    const { model } = service;
    if (parsed.model !== model.id) throw modelNotFound(model.id);
    const { namespace: tenant, chargeTokens } = identityOf(res);
    const id = `${dialect.idPrefix}${randomUUID().replaceAll('-', '')}`;
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
      const signal = clientGone(res);
      let report: { usage: End['usage']; timings: End['timings']; choices: number } | undefined;
      let outcome: Outcome = 'completed';
      try {
        await serve(await body(), res, signal, ({ usage, timings }, choices) => {
          report = { usage, timings, choices };
        });
      } catch (error) {
        outcome = outcomeOf(error);
        throw error;
      } finally {
        if (signal.aborted) outcome = 'aborted';
        statistics.record({
          endpoint: dialect.endpoint,
          tenant: identityOf(res).tenant,
          model: service.model.id,
          outcome,
          ...(report === undefined ? {} : { report }),
        });
      }
    },
  });
}
