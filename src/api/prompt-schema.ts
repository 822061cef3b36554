/** A prompt in the bodies of the control plane: `messages` or `prompt`, as the completion endpoints take them. */
import type { z } from 'zod';
import type { AskedPrompt } from '../control/cache-desk.js';
import type { ErrorCode } from '../errors.js';
import { message, messageOf } from './chat-schema.js';
import { optional, someOf } from './fields.js';
import type { Limits } from './limits.js';
import { prompt } from './text-schema.js';

/** What a prompt may be refused for, once it is read, and what may happen while it is computed. */
export const PROMPT_ERRORS = [
  'model_not_found',
  'context_length_exceeded',
  'prompt_over_rate_limit',
  'rate_limit_exceeded',
  'queue_full',
  'device_memory_full',
  'engine_failed',
  'shutting_down',
] as const satisfies readonly ErrorCode[];

export function promptFields(limits: Limits) {
  return {
    messages: optional(someOf(message(limits), limits.messagesMax)).describe('A chat, as `POST /v1/chat/completions` takes it.'),
    prompt: optional(prompt).describe('A text or token ids, as `POST /v1/completions` takes them.'),
  };
}

type Fields = {
  readonly [field in keyof ReturnType<typeof promptFields>]: z.output<ReturnType<typeof promptFields>[field]>;
};

/** Refuses a body with both fields, or with none. */
export function requireOnePrompt({ messages, prompt: text }: Fields, context: z.RefinementCtx): void {
  if ((messages === undefined) !== (text === undefined)) return;
  const rule =
    messages === undefined
      ? 'is missing, and there is no prompt'
      : 'contradicts prompt: give only one of them';
  context.addIssue({ code: 'custom', path: ['messages'], message: rule });
}

/** The prompt of a body that has one, in the words of the service. */
export function promptOf({ messages, prompt: text }: Fields): Omit<AskedPrompt, 'namespace'> {
  if (text !== undefined) return { prompt: text, promptField: 'prompt' };
  return {
    prompt: { kind: 'chat', messages: (messages ?? []).map(messageOf), documents: [] },
    promptField: 'messages',
  };
}
