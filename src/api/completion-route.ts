/**
 * One completion request over HTTP, in either dialect:
 *
 * 1. read and validate the body; a bad one ends here;
 * 2. hand it to the service, with a signal that fires when the client goes away;
 * 3. answer with one JSON body, or with a chunk an event (a stream opens with the first event, so that a refusal by
 *    the service still has its status);
 * 4. count the request, once, before the client can see that it ended.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { Request, RequestHandler, Response } from 'express';
import { RadixkvError } from '../errors.js';
import type {
  CompletionEvent,
  CompletionService,
  FinishReason,
  TokenLogprob,
} from '../serving/completion.js';
import type { Outcome, Statistics } from '../serving/statistics.js';
import type { BodyReader } from './body.js';
import type { Dialect, Parsed } from './dialect.js';
import { toRadixkvError } from './error-response.js';
import { namespaceOf } from './namespace.js';
import { endEventStream, openEventStream, sendEvent } from './sse.js';
import { timingsJson, usageJson } from './usage.js';

type End = Extract<CompletionEvent, { type: 'end' }>;

interface Exchange {
  readonly dialect: Dialect;
  readonly parsed: Parsed;
  readonly events: AsyncIterable<CompletionEvent>;
  readonly signal: AbortSignal;
  readonly res: Response;
  /** Fields that every body and chunk of this answer carries. */
  readonly head: object;
  readonly onEnd: (end: End) => void;
}

function closing({ usage, timings }: End, choices: number) {
  return { usage: usageJson(usage), timings: timingsJson(usage, timings, choices) };
}

/** Collects all events into one body. Sends nothing when the client is gone. */
async function answerWhole({ dialect, parsed, events, signal, res, head, onEnd }: Exchange): Promise<void> {
  const withLogprobs = parsed.work.sampling.topLogprobs !== undefined;
  const drafts = Array.from({ length: parsed.work.n }, () => ({
    texts: [] as string[],
    logprobs: [] as TokenLogprob[],
    reason: undefined as FinishReason | undefined,
  }));
  let end: End | undefined;
  for await (const event of events) {
    if (event.type === 'end') {
      end = event;
      onEnd(event);
    } else if (event.type === 'finish') {
      drafts[event.index]!.reason = event.reason;
    } else {
      drafts[event.index]!.texts.push(event.text);
      drafts[event.index]!.logprobs.push(...(event.logprobs ?? []));
    }
  }
  if (signal.aborted) return;
  assert(end !== undefined, 'the service must end with an end event');
  const choices = drafts.map(({ texts, logprobs, reason }, index) => {
    assert(reason !== undefined, 'the service must finish every choice');
    return dialect.choice({
      index,
      text: texts.join(''),
      logprobs: withLogprobs ? logprobs : undefined,
      reason,
    });
  });
  res.json({ ...head, object: dialect.replyObject, choices, ...closing(end, parsed.work.n) });
}

/** Sends a chunk an event. The last finish is held back until the end event brings what goes with it. */
async function answerInStream(exchange: Exchange): Promise<void> {
  const { dialect, parsed, events, signal, res, onEnd } = exchange;
  const head = { ...exchange.head, object: dialect.chunkObject };
  const renderer = dialect.createChunkRenderer();
  const noUsageYet = parsed.includeUsage ? { usage: null } : {};
  const send = async (choice: object | undefined, extra: object = {}) => {
    if (choice !== undefined) await sendEvent(res, { ...head, choices: [choice], ...noUsageYet, ...extra });
  };
  let open = false;
  let heldFinish: object | undefined;
  let end: End | undefined;
  for await (const event of events) {
    if (event.type === 'end') {
      end = event;
      onEnd(event);
    }
    if (signal.aborted) continue;
    if (!open) {
      open = true;
      openEventStream(res);
      for (let index = 0; index < parsed.work.n; index++) await send(renderer.opening(index));
    }
    if (event.type === 'end') continue;
    await send(heldFinish);
    heldFinish = undefined;
    if (event.type === 'finish') heldFinish = renderer.finish(event.index, event.reason);
    else await send(renderer.delta(event.index, event.text, event.logprobs));
  }
  if (signal.aborted) return;
  assert(end !== undefined, 'the service must end with an end event');
  const { usage, timings } = closing(end, parsed.work.n);
  await send(heldFinish, parsed.includeUsage ? {} : { timings });
  if (parsed.includeUsage) await sendEvent(res, { ...head, choices: [], usage, timings });
  endEventStream(res, '[DONE]');
}

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

export function completionRoute({
  dialect,
  service,
  statistics,
  readBody,
}: {
  readonly dialect: Dialect;
  readonly service: CompletionService;
  readonly statistics: Statistics;
  readonly readBody: BodyReader;
}): RequestHandler {
  const serve = async (
    req: Request,
    res: Response,
    signal: AbortSignal,
    onEnd: (end: End, n: number) => void,
  ) => {
    const parsed = dialect.parse(await readBody(req, res));
    const { model } = service;
    if (parsed.model !== model.id) {
      throw new RadixkvError('model_not_found', `The model does not exist; '${model.id}' is served.`, {
        param: 'model',
      });
    }
    const id = `${dialect.idPrefix}${randomUUID().replaceAll('-', '')}`;
    const events = service.complete({
      ...parsed.work,
      id,
      namespace: namespaceOf(req.get('authorization')),
      signal,
    });
    const head = {
      id,
      created: Math.floor(Date.now() / 1000),
      model: model.id,
      ...(model.fingerprint === undefined ? {} : { system_fingerprint: model.fingerprint }),
    };
    const answer = parsed.stream ? answerInStream : answerWhole;
    await answer({ dialect, parsed, events, signal, res, head, onEnd: (end) => onEnd(end, parsed.work.n) });
  };
  return async (req, res) => {
    const signal = clientGone(res);
    let report: { usage: End['usage']; timings: End['timings']; choices: number } | undefined;
    let outcome: Outcome = 'completed';
    try {
      await serve(req, res, signal, ({ usage, timings }, choices) => {
        report = { usage, timings, choices };
      });
    } catch (error) {
      outcome = outcomeOf(error);
      throw error;
    } finally {
      if (signal.aborted) outcome = 'aborted';
      statistics.record({ endpoint: dialect.endpoint, outcome, ...(report === undefined ? {} : { report }) });
    }
  };
}
