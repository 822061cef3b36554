/**
 * `POST /v1/messages`: Anthropic's Messages API. Messages in, one block of text out.
 *
 * Of a stream each event has its type as name: message_start, content_block_start, content_block_delta …,
 * content_block_stop, message_delta, message_stop.
 */
import { type PromptUsage, tokensOf } from '../serving/completion.js';
import type { Dialect, FinishedChoice, Head, StreamRenderer } from './dialect.js';
import type { Limits } from './limits.js';
import { messageAnswer, messageEvent } from './messages-answers.js';
import { MESSAGES_PATH } from './messages-error.js';
import { messagesBody } from './messages-schema.js';
import type { StreamEvent } from './sse.js';

/** Input, what was read from the cache and what was written to it are the prompt. Writing is not counted apart. */
function usageJson({ promptTokens, cachedTokens, blendedTokens }: PromptUsage, outputTokens: number) {
  const readTokens = tokensOf(cachedTokens) + tokensOf(blendedTokens);
  return {
    input_tokens: promptTokens - readTokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: readTokens,
    output_tokens: outputTokens,
  };
}

function stopJson({ reason, stopString }: Pick<FinishedChoice, 'reason' | 'stopString'>) {
  if (stopString !== undefined) return { stop_reason: 'stop_sequence', stop_sequence: stopString };
  return { stop_reason: reason === 'length' ? 'max_tokens' : 'end_turn', stop_sequence: null };
}

const UNFINISHED = { stop_reason: null, stop_sequence: null };

function messageJson(
  { id, model }: Head,
  rest: { readonly content: readonly object[]; readonly stop: object; readonly usage: object },
) {
  const { content, stop, usage } = rest;
  return { id, type: 'message', role: 'assistant', model: model.id, content, ...stop, usage };
}

function named(type: string, fields: object = {}): StreamEvent {
  return { event: type, data: { type, ...fields } };
}

function createStream(head: Head): StreamRenderer {
  const index = 0;
  let stop: object = UNFINISHED;
  return (event) => {
    if (event.type === 'prompt') {
      const message = messageJson(head, { content: [], stop, usage: usageJson(event.usage, 0) });
      const content_block = { type: 'text', text: '' };
      return [named('message_start', { message }), named('content_block_start', { index, content_block })];
    }
    if (event.type === 'delta') {
      const delta = { type: 'text_delta', text: event.text };
      return [named('content_block_delta', { index, delta })];
    }
    if (event.type === 'finish') {
      stop = stopJson({ reason: event.reason, stopString: event.stopString });
      return [named('content_block_stop', { index })];
    }
    const usage = usageJson(event.usage, event.usage.completionTokens);
    return [named('message_delta', { delta: stop, usage }), named('message_stop')];
  };
}

export function createMessagesDialect(limits: Limits): Dialect {
  return {
    endpoint: 'messages',
    path: MESSAGES_PATH,
    idPrefix: 'msg_',
    operation: {
      id: 'createMessage',
      summary: 'Answers a chat, in Anthropic’s format.',
      errorShape: 'messages',
    },
    example: { messages: [{ role: 'user', content: 'What is a radix tree?' }], max_tokens: 8 },
    body: messagesBody(limits),
    answers: { whole: messageAnswer, event: messageEvent },
    whole: (head, _parsed, { choices: [choice], end }) =>
      messageJson(head, {
        content: [{ type: 'text', text: choice!.text }],
        stop: stopJson(choice!),
        usage: usageJson(end.usage, end.usage.completionTokens),
      }),
    createStream,
  };
}
