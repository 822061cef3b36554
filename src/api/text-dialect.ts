/**
 * `POST /v1/completions`: text in, text out, with the older shape of log probabilities: parallel lists, one entry a
 * token, where `text_offset` counts the code points of the choice's text before the token.
 */
import type { TokenLogprob } from '../serving/completion.js';
import type { Dialect } from './dialect.js';
import type { Limits } from './limits.js';
import { openAiAnswers } from './openai-answer.js';
import { textCompletion, textCompletionEvent } from './openai-answers.js';
import { textBody } from './text-schema.js';

/** Code points that begin in `bytes`: a token may end within one, so its text can't be counted. */
function codePoints(bytes: readonly number[]): number {
  return bytes.filter((byte) => (byte & 0xc0) !== 0x80).length;
}

/** The lists for `tokens`, and the offset of the token after them. */
function logprobsJson(tokens: readonly TokenLogprob[], startOffset: number) {
  let nextOffset = startOffset;
  const offsets = tokens.map(({ bytes }) => {
    const offset = nextOffset;
    nextOffset += codePoints(bytes);
    return offset;
  });
  const json = {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(({ token, logprob, top }) =>
      Object.fromEntries([...top, { token, logprob }].map((each) => [each.token, each.logprob])),
    ),
    text_offset: offsets,
  };
  return { json, nextOffset };
}

export function createTextDialect(limits: Limits): Dialect {
  return {
    endpoint: 'completions',
    path: '/v1/completions',
    idPrefix: 'cmpl-',
    operation: { id: 'createCompletion', summary: 'Continues a text, in OpenAI’s older format.' },
    example: { prompt: 'A radix tree is', max_tokens: 8 },
    body: textBody(limits),
    answers: { whole: textCompletion, event: textCompletionEvent },
    ...openAiAnswers({
      replyObject: 'text_completion',
      chunkObject: 'text_completion',
      choice: ({ index, text, logprobs, reason }) => ({
        index,
        text,
        logprobs: logprobs === undefined ? null : logprobsJson(logprobs, 0).json,
        finish_reason: reason,
      }),
      createChunkRenderer: () => {
        const offsets = new Map<number, number>();
        return {
          opening: () => undefined,
          delta: (index, text, logprobs) => {
            if (logprobs === undefined) return { index, text, logprobs: null, finish_reason: null };
            const { json, nextOffset } = logprobsJson(logprobs, offsets.get(index) ?? 0);
            offsets.set(index, nextOffset);
            return { index, text, logprobs: json, finish_reason: null };
          },
          finish: (index, reason) => ({ index, text: '', logprobs: null, finish_reason: reason }),
        };
      },
    }),
  };
}
