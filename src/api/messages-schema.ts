/**
 * The body of `POST /v1/messages`, Anthropic's format, and its translation into the words of the service: the same chat
 * that `POST /v1/chat/completions` would make of it, so that both find each other's KV.
 */
import { z } from 'zod';
import { DEFAULT_CACHE, GREEDY } from '../serving/completion.js';
import { cacheMark } from './cache-schema.js';
import type { Parsed } from './dialect.js';
import { defaulted, list, optional, sharedFields, someOf, text, unsupported } from './fields.js';
import type { Limits } from './limits.js';
import { textContent, textPart } from './text-content.js';

const block = textPart({ cache_control: cacheMark, citations: unsupported([]) });

/** The schema of a request for a message. Fields named with `unsupported` are refused by their name. */
export function messagesSchema(limits: Limits) {
  const { model, temperature, top_p, top_k, stream } = sharedFields(limits);
  const content = textContent(block, limits.partsMax);
  const message = z.strictObject({ role: z.enum(['user', 'assistant']), content });
  return z
    .strictObject({
      model,
      max_tokens: z.int().min(1).describe('Tokens to generate at most.'),
      messages: someOf(message, limits.messagesMax).describe(
        'The conversation so far, oldest first; the last message is the user’s.',
      ),
      system: optional(content).describe('What stands before the conversation.'),
      stop_sequences: defaulted(list(text.min(1), limits.stopStringsMax), []).describe(
        'Strings that end the answer, and are not part of it.',
      ),
      stream,
      temperature,
      top_p,
      top_k,
      metadata: optional(z.strictObject({ user_id: optional(z.string()) })).describe(
        'Accepted and without effect.',
      ),
      cache_control: cacheMark,
      container: unsupported(),
      context_management: unsupported(),
      diagnostics: unsupported(),
      inference_geo: unsupported(),
      mcp_servers: unsupported([]),
      output_config: unsupported({}),
      service_tier: unsupported('auto', 'standard_only'),
      speed: unsupported('standard'),
      thinking: unsupported({ type: 'disabled' }),
      tool_choice: unsupported({ type: 'auto' }, { type: 'none' }),
      tools: unsupported([]),
    })
    .superRefine(({ messages }, context) => {
      if (messages.at(-1)?.role !== 'assistant') return;
      context.addIssue({
        code: 'custom',
        path: ['messages', messages.length - 1, 'role'],
        message: 'is not supported in the last message, other than "user": answers are not continued',
        params: { code: 'unsupported_field' },
      });
    });
}

/** A request in the words of the service. */
export function messagesBody(limits: Limits): z.ZodType<Parsed> {
  return messagesSchema(limits).transform((body) => {
    const system = body.system === undefined ? [] : [{ role: 'system' as const, content: body.system }];
    return {
      model: body.model,
      stream: body.stream,
      includeUsage: true,
      cacheSalt: undefined,
      work: {
        prompt: { kind: 'chat', messages: [...system, ...body.messages], documents: [] },
        promptField: 'messages',
        n: 1,
        maxTokens: body.max_tokens,
        stop: body.stop_sequences,
        cache: DEFAULT_CACHE,
        priority: 0,
        deadlineMs: undefined,
        sampling: { ...GREEDY, temperature: body.temperature, topP: body.top_p, topK: body.top_k },
      },
    };
  });
}
