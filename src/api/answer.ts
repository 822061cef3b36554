/**
 * The events of one completion as an answer over HTTP: one JSON body, or a stream.
 *
 * A stream opens with the first event, so that a refusal by the service still has its status. After an abort nothing
 * is sent, but the events are read to their end, for what they report.
 */
import assert from 'node:assert/strict';
import type { Response } from 'express';
import type { CompletionEvent, FinishReason, TokenLogprob } from '../serving/completion.js';
import type { Dialect, End, FinishedChoice, Head, Parsed } from './dialect.js';
import { endEventStream, openEventStream, sendEvent } from './sse.js';

export interface Exchange {
  readonly dialect: Dialect;
  readonly parsed: Parsed;
  readonly events: AsyncIterable<CompletionEvent>;
  readonly signal: AbortSignal;
  readonly res: Response;
  readonly head: Head;
  readonly onEnd: (end: End) => void;
}

/** The choices of an answer, as far as they have come. */
class Drafts {
  readonly #withLogprobs: boolean;
  readonly #drafts: {
    readonly texts: string[];
    readonly logprobs: TokenLogprob[];
    reason: FinishReason | undefined;
    stopString: string | undefined;
  }[];

  constructor({ work }: Parsed) {
    this.#withLogprobs = work.sampling.topLogprobs !== undefined;
    this.#drafts = Array.from({ length: work.n }, () => {
      return { texts: [], logprobs: [], reason: undefined, stopString: undefined };
    });
  }

  take(event: Extract<CompletionEvent, { type: 'delta' | 'finish' }>): void {
    const draft = this.#drafts[event.index]!;
    if (event.type === 'finish') {
      draft.reason = event.reason;
      draft.stopString = event.stopString;
    } else {
      draft.texts.push(event.text);
      draft.logprobs.push(...(event.logprobs ?? []));
    }
  }

  finished(): FinishedChoice[] {
    return this.#drafts.map(({ texts, logprobs, reason, stopString }, index) => {
      assert(reason !== undefined, 'the service must finish every choice');
      return {
        index,
        text: texts.join(''),
        logprobs: this.#withLogprobs ? logprobs : undefined,
        reason,
        stopString,
      };
    });
  }
}

/** Collects all events into one body. Sends nothing when the client is gone. */
export async function answerWhole(exchange: Exchange): Promise<void> {
  const { dialect, parsed, events, signal, res, head, onEnd } = exchange;
  const drafts = new Drafts(parsed);
  let end: End | undefined;
  for await (const event of events) {
    if (event.type === 'end') {
      end = event;
      onEnd(event);
    } else if (event.type !== 'prompt') drafts.take(event);
  }
  if (signal.aborted) return;
  assert(end !== undefined, 'the service must end with an end event');
  res.json(dialect.whole(head, parsed, { choices: drafts.finished(), end }));
}

/** Sends what the dialect makes of each event. */
export async function answerInStream(exchange: Exchange): Promise<void> {
  const { dialect, parsed, events, signal, res, head, onEnd } = exchange;
  const render = dialect.createStream(head, parsed);
  let isOpen = false;
  let end: End | undefined;
  for await (const event of events) {
    if (event.type === 'end') {
      end = event;
      onEnd(event);
    }
    if (signal.aborted) continue;
    if (!isOpen) {
      isOpen = true;
      openEventStream(res);
    }
    if (event.type === 'end') continue;
    for (const each of render(event)) await sendEvent(res, each);
  }
  if (signal.aborted) return;
  assert(end !== undefined, 'the service must end with an end event');
  const closing = render(end);
  for (const each of closing.slice(0, -1)) await sendEvent(res, each);
  endEventStream(res, closing.at(-1)!);
}
