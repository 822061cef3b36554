/** What the answers of Anthropic's Messages API look like, whole and as the data of events. */
import { z } from 'zod';
import { messagesErrorAnswer } from './error-answers.js';

const usage = z.object({
  input_tokens: z.int(),
  cache_creation_input_tokens: z.int(),
  cache_read_input_tokens: z.int(),
  output_tokens: z.int(),
});
const stop = {
  stop_reason: z.enum(['end_turn', 'max_tokens', 'stop_sequence']).nullable(),
  stop_sequence: z.string().nullable(),
};
const textBlock = z.object({ type: z.literal('text'), text: z.string() });
const index = z.int();

export const messageAnswer = z
  .object({
    id: z.string(),
    type: z.literal('message'),
    role: z.literal('assistant'),
    model: z.string(),
    content: z.array(textBlock),
    ...stop,
    usage,
  })
  .meta({ id: 'Message' });

export const messageEvent = z
  .discriminatedUnion('type', [
    z.object({ type: z.literal('message_start'), message: messageAnswer }),
    z.object({ type: z.literal('content_block_start'), index, content_block: textBlock }),
    z.object({
      type: z.literal('content_block_delta'),
      index,
      delta: z.object({ type: z.literal('text_delta'), text: z.string() }),
    }),
    z.object({ type: z.literal('content_block_stop'), index }),
    z.object({ type: z.literal('message_delta'), delta: z.object(stop), usage }),
    z.object({ type: z.literal('message_stop') }),
    messagesErrorAnswer,
  ])
  .meta({ id: 'MessageEvent' });
