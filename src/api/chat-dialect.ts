/** `POST /v1/chat/completions`: messages in, an assistant message out. */
import type { TokenLogprob } from '../serving/completion.js';
import { chatBody } from './chat-schema.js';
import type { Dialect } from './dialect.js';
import type { Limits } from './limits.js';
import { openAiAnswers } from './openai-answer.js';
import { chatCompletion, chatCompletionEvent } from './openai-answers.js';

function logprobsJson(tokens: readonly TokenLogprob[] | undefined) {
  if (tokens === undefined) return null;
  return {
    content: tokens.map(({ token, logprob, bytes, top }) => ({ token, logprob, bytes, top_logprobs: top })),
    refusal: null,
  };
}

export function createChatDialect(limits: Limits): Dialect {
  return {
    endpoint: 'chat.completions',
    path: '/v1/chat/completions',
    idPrefix: 'chatcmpl-',
    operation: { id: 'createChatCompletion', summary: 'Answers a chat, in OpenAI’s format.' },
    example: { messages: [{ role: 'user', content: 'What is a radix tree?' }], max_tokens: 8 },
    body: chatBody(limits),
    answers: { whole: chatCompletion, event: chatCompletionEvent },
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
