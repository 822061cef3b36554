/** `POST /v1/chat/completions`: messages in, an assistant message out. */
import type { TokenLogprob } from '../serving/completion.js';
import { chatSchema, parseChat } from './chat-schema.js';
import type { Dialect } from './dialect.js';
import type { Limits } from './limits.js';
import { openAiAnswers } from './openai-answer.js';

function logprobsJson(tokens: readonly TokenLogprob[] | undefined) {
  if (tokens === undefined) return null;
  return {
    content: tokens.map(({ token, logprob, bytes, top }) => ({ token, logprob, bytes, top_logprobs: top })),
    refusal: null,
  };
}

export function createChatDialect(limits: Limits): Dialect {
  const schema = chatSchema(limits);
  return {
    endpoint: 'chat.completions',
    path: '/v1/chat/completions',
    idPrefix: 'chatcmpl-',
    parse: (body) => parseChat(schema, body),
    ...openAiAnswers({
      replyObject: 'chat.completion',
      chunkObject: 'chat.completion.chunk',
      choice: ({ index, text, logprobs, reason }) => ({
        index,
        message: { role: 'assistant', content: text, refusal: null },
        logprobs: logprobsJson(logprobs),
        finish_reason: reason,
      }),
      createChunkRenderer: () => ({
        opening: (index) => ({
          index,
          delta: { role: 'assistant', content: '' },
          logprobs: null,
          finish_reason: null,
        }),
        delta: (index, text, logprobs) => ({
          index,
          delta: { content: text },
          logprobs: logprobsJson(logprobs),
          finish_reason: null,
        }),
        finish: (index, reason) => ({ index, delta: {}, logprobs: null, finish_reason: reason }),
      }),
    }),
  };
}
