/**
 * The events of one completion as an answer over HTTP: one JSON body, or a chunk an event.
 *
 * A stream opens with the first event, so that a refusal by the service still has its status. After an abort nothing
 * is sent, but the events are read to their end, for what they report.
 */
import assert from 'node:assert/strict';
import type { Response } from 'express';
import type { CompletionEvent, FinishReason, TokenLogprob } from '../serving/completion.js';
import type { Dialect, Parsed } from './dialect.js';
import { explanationJson } from './explanation.js';
import { endEventStream, openEventStream, sendEvent } from './sse.js';
import { timingsJson, usageJson } from './usage.js';

export type End = Extract<CompletionEvent, { type: 'end' }>;

export interface Exchange {
  readonly dialect: Dialect;
  readonly parsed: Parsed;
  readonly events: AsyncIterable<CompletionEvent>;
  readonly signal: AbortSignal;
  readonly res: Response;
  /** Fields that every body and chunk of this answer carries. */
  readonly head: object;
  readonly onEnd: (end: End) => void;
}

/** What an answer closes with: the usage, and what is not part of OpenAI's format. */
function closing({ usage, timings, explanation }: End, choices: number) {
  return {
    usage: usageJson(usage),
    extras: {
      timings: timingsJson(usage, timings, choices),
      ...(explanation && { explanation: explanationJson(explanation) }),
    },
  };
}

/** Collects all events into one body. Sends nothing when the client is gone. */
export async function answerWhole({
  dialect,
  parsed,
  events,
  signal,
  res,
  head,
  onEnd,
}: Exchange): Promise<void> {
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
  const { usage, extras } = closing(end, parsed.work.n);
  res.json({ ...head, object: dialect.replyObject, choices, usage, ...extras });
}

/** Sends a chunk an event. The last finish is held back until the end event brings what goes with it. */
export async function answerInStream(exchange: Exchange): Promise<void> {
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
  const { usage, extras } = closing(end, parsed.work.n);
  await send(heldFinish, parsed.includeUsage ? {} : extras);
  if (parsed.includeUsage) await sendEvent(res, { ...head, choices: [], usage, ...extras });
  endEventStream(res, '[DONE]');
}
