/** The body of `POST /v1/chat/completions`, and its translation into the words of the service. */
import { z } from 'zod';
import type { ChatMessage } from '../serving/completion.js';
import {
  cacheControl,
  cacheConventions,
  cacheMark,
  cacheOf,
  refuseCacheContradiction,
} from './cache-schema.js';
import type { Parsed } from './dialect.js';
import { promptDocuments } from './document-schema.js';
import {
  defaulted,
  optional,
  refuseStreamOptionsAlone,
  samplingOf,
  sharedFields,
  someOf,
  text,
  unsupported,
} from './fields.js';
import type { Limits } from './limits.js';
import { textContent, textPart } from './text-content.js';

const part = textPart({ cache_control: cacheMark });

/** A message of a chat. */
export function message(limits: Limits) {
  return z.strictObject({
    role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
    content: textContent(part, limits.partsMax).describe(
      'A string, or text parts, which are joined by line feeds.',
    ),
    name: optional(text.min(1).max(256)).describe('Passed to the chat template.'),
    tool_call_id: optional(z.string()).describe('Accepted and without effect.'),
    tool_calls: unsupported([]),
    function_call: unsupported(),
    refusal: unsupported(),
    audio: unsupported(),
    annotations: unsupported([]),
  });
}

/** The schema of a chat completion request. Fields named with `unsupported` are refused by their name. */
export function chatSchema(limits: Limits) {
  return z
    .strictObject({
      ...sharedFields(limits),
      ...cacheConventions(limits),
      messages: someOf(message(limits), limits.messagesMax).describe(
        'The conversation so far, oldest first.',
      ),
      documents: defaulted(promptDocuments(limits), []).describe(
        'Passages that the model reads, in this order.',
      ),
      cache: optional(cacheControl).describe('How the cache may be used.'),
      max_completion_tokens: optional(z.int().min(1)).describe(
        'Tokens to generate at most, for each choice; absent, up to the end of the context.',
      ),
      max_tokens: optional(z.int().min(1)).describe('Older name of `max_completion_tokens`.'),
      logprobs: defaulted(z.boolean(), false).describe('Report the log probability of each token.'),
      top_logprobs: optional(z.int().min(0).max(20)).describe(
        'Number of likeliest alternatives per token. Only with `logprobs`.',
      ),
      audio: unsupported(),
      function_call: unsupported('none'),
      functions: unsupported([]),
      metadata: unsupported({}),
      modalities: unsupported(['text']),
      moderation: unsupported(),
      parallel_tool_calls: unsupported(true, false),
      prediction: unsupported(),
      reasoning_effort: unsupported('none'),
      response_format: unsupported({ type: 'text' }),
      safety_identifier: unsupported(),
      service_tier: unsupported('auto', 'default'),
      store: unsupported(false),
      tool_choice: unsupported('none', 'auto'),
      tools: unsupported([]),
      verbosity: unsupported('medium'),
      web_search_options: unsupported(),
    })
    .superRefine((body, context) => {
      refuseStreamOptionsAlone(body, context);
      refuseCacheContradiction(body, context);
      if (
        body.max_tokens !== undefined &&
        body.max_completion_tokens !== undefined &&
        body.max_tokens !== body.max_completion_tokens
      ) {
        context.addIssue({
          code: 'custom',
          path: ['max_completion_tokens'],
          message: 'contradicts max_tokens: give only one of them',
        });
      }
      if (body.top_logprobs !== undefined && !body.logprobs) {
        context.addIssue({ code: 'custom', path: ['top_logprobs'], message: 'needs logprobs: true' });
      }
      if (body.cache?.mode === 'blend' && body.documents.length === 0) {
        context.addIssue({ code: 'custom', path: ['cache', 'mode'], message: 'needs documents' });
      }
    });
}

/** A message in the words of the service. */
export function messageOf({ role, content, name }: z.output<ReturnType<typeof message>>): ChatMessage {
  return {
    role,
    content,
    ...(name === undefined ? {} : { name }),
  };
}

/** A request in the words of the service. */
export function chatBody(limits: Limits): z.ZodType<Parsed> {
  return chatSchema(limits).transform((body) => ({
    model: body.model,
    stream: body.stream,
    includeUsage: body.stream_options?.include_usage ?? false,
    cacheSalt: body.cache_salt,
    work: {
      prompt: { kind: 'chat', messages: body.messages.map(messageOf), documents: body.documents },
      promptField: 'messages',
      n: body.n,
      maxTokens: body.max_completion_tokens ?? body.max_tokens,
      stop: body.stop ?? [],
      cache: cacheOf(body),
      priority: body.priority,
      deadlineMs: body.deadline_ms,
      sampling: samplingOf(body, body.logprobs ? (body.top_logprobs ?? 0) : undefined),
    },
  }));
}
