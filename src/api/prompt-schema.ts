/** A prompt in the bodies of the control plane: `messages` or `prompt`, as the completion endpoints take them. */
import { z } from 'zod';
import type { AskedPrompt } from '../control/cache-desk.js';
import type { ErrorCode } from '../errors.js';
import type { CompletionService, Prompt } from '../serving/completion.js';
import { message, messageOf } from './chat-schema.js';
import { modelNotFound } from './error-response.js';
import { looksLike, optional, someOf } from './fields.js';
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

function chat(limits: Limits) {
  return someOf(message(limits), limits.messagesMax).describe(
    'A chat, as `POST /v1/chat/completions` takes it.',
  );
}

const described = prompt.describe('A text or token ids, as `POST /v1/completions` takes them.');

interface Fields {
  readonly messages?: z.output<ReturnType<typeof chat>> | undefined;
  readonly prompt?: Prompt | undefined;
}

function requireOnePrompt(body: object, context: z.RefinementCtx): void {
  const [hasMessages, hasPrompt] = ['messages', 'prompt'].map(
    (field) => Reflect.get(body, field) !== undefined,
  );
  if (hasMessages !== hasPrompt) return;
  const rule = hasMessages
    ? 'contradicts prompt: give only one of them'
    : 'is missing, and there is no prompt';
  context.addIssue({ code: 'custom', path: ['messages'], message: rule });
}

/** A body with one prompt, as `messages` or as `prompt`, beside other fields. */
export function onePromptWith<Others extends z.ZodRawShape>(limits: Limits, others: Others) {
  const absent = z.null().optional();
  const messages = chat(limits);
  return looksLike(
    z.union([
      z.strictObject({ ...others, messages, prompt: absent }),
      z.strictObject({ ...others, prompt: described, messages: absent }),
    ]),
    z
      .strictObject({ ...others, messages: optional(messages), prompt: optional(described) })
      .superRefine(requireOnePrompt),
  );
}

/** Likewise, but maybe without any. */
export function somePromptWith<Others extends z.ZodRawShape>(limits: Limits, others: Others) {
  const absent = z.null().optional();
  const messages = chat(limits);
  return looksLike(
    z.union([
      z.strictObject({ ...others, messages: optional(messages), prompt: absent }),
      z.strictObject({ ...others, prompt: optional(described), messages: absent }),
    ]),
    z
      .strictObject({ ...others, messages: optional(messages), prompt: optional(described) })
      .superRefine((body: object, context) => {
        if (['messages', 'prompt'].some((field) => Reflect.get(body, field) === undefined)) return;
        context.addIssue({
          code: 'custom',
          path: ['messages'],
          message: 'contradicts prompt: give only one of them',
        });
      }),
  );
}

/** The prompt of a body that has one, in the words of the service. */
export function promptOf({ messages, prompt: text }: Fields): Omit<AskedPrompt, 'namespace'> {
  if (text !== undefined) return { prompt: text, promptField: 'prompt' };
  return {
    prompt: { kind: 'chat', messages: (messages ?? []).map(messageOf), documents: [] },
    promptField: 'messages',
  };
}

/** Of more than a chunk, which is the least that can be pinned. */
export const EXAMPLE_PROMPT =
  'You answer questions about the lamp of the island. Ada Brook lights it at dusk and trims the wick at midnight; in fog ' +
  'she rings the bell every two minutes. The boat brings flour and letters on the first day of each month. It comes from ' +
  'Hollin, and waits for the tide before it leaves again. Answer in one sentence, and say so when you do not know.';

/** A body that is about the served model. @throws RadixkvError `model_not_found` */
export function served<Body extends { readonly model: string }>(
  { model: { id } }: CompletionService,
  body: Body,
): Body {
  if (body.model !== id) throw modelNotFound(id);
  return body;
}
