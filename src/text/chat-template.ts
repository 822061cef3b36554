/**
 * Chat templates: messages → the prompt text that a model was trained on, by its own Jinja template.
 *
 * Deterministic: the same messages always give the same text, or prefixes would not be reused. `strftime_now` is
 * therefore fixed to 26 July 2024, the date that Llama 3 templates fall back to. Compiled once. Knows no tokens.
 *
 * Known difference from Jinja2: the library's `strip`, `lstrip` and `rstrip` ignore an argument and strip all white space.
 */
import { Template } from '@huggingface/jinja';
import { RadixkvError } from '../errors.js';
import type { ChatMessage } from '../serving/completion.js';
import { readModelFile, readModelJson, TokenizerConfig } from './tokenizer-json.js';

export interface RenderOptions {
  /** Ends the prompt with the header of the assistant's turn. */
  readonly addGenerationPrompt: boolean;
  /** Further variables of the template, e.g. `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

/** `strftime` directive → its value on the fixed date. */
const FIXED_DATE: Readonly<Record<string, string>> = {
  a: 'Fri',
  A: 'Friday',
  b: 'Jul',
  B: 'July',
  d: '26',
  H: '00',
  M: '00',
  m: '07',
  S: '00',
  y: '24',
  Y: '2024',
  '%': '%',
};

export class ChatTemplate {
  readonly #template: Template;
  readonly #names: Readonly<Record<string, string>>;
  readonly #knowsDeveloper: boolean;
  /** Whether the template reads documents itself, from the variable `documents`. */
  readonly knowsDocuments: boolean;

  /**
   * @param source Jinja source.
   * @param names special tokens that templates refer to (`bos_token`, `eos_token`, …).
   * @throws RadixkvError `unsupported_model` when the source can't be parsed.
   */
  constructor(source: string, names: Readonly<Record<string, string>>) {
    try {
      this.#template = new Template(withFixedDate(source));
    } catch (cause) {
      throw new RadixkvError('unsupported_model', `the chat template can't be parsed: ${messageOf(cause)}`, {
        cause,
      });
    }
    this.#names = names;
    this.#knowsDeveloper = /["']developer["']/.test(source);
    this.knowsDocuments = /\{[%{][^%}]*\bdocuments\b/.test(source);
  }

  /**
   * The prompt text. `developer` messages become `system` messages where the template doesn't know the role.
   *
   * @throws RadixkvError `invalid_value` for `messages` when the template refuses them.
   */
  render(messages: readonly ChatMessage[], options: RenderOptions): string {
    const roles = messages.map((message) =>
      message.role === 'developer' && !this.#knowsDeveloper ? { ...message, role: 'system' } : { ...message },
    );
    try {
      return this.#template.render({
        ...this.#names,
        ...options.variables,
        messages: roles,
        add_generation_prompt: options.addGenerationPrompt,
        fixed_strftime_now: fixedStrftime,
      });
    } catch (cause) {
      throw new RadixkvError('invalid_value', `the chat template refuses the messages: ${messageOf(cause)}`, {
        param: 'messages',
        cause,
      });
    }
  }
}

/**
 * Reads the chat template of a model directory: `chat_template.jinja`, else `chat_template` of
 * `tokenizer_config.json` (of a named list, `default`).
 *
 * @returns `undefined` for a model without one; see {@link requireChatTemplate}.
 * @throws RadixkvError `unsupported_model` when it can't be parsed.
 */
export async function createChatTemplate(
  directory: string,
  names: Readonly<Record<string, string>>,
): Promise<ChatTemplate | undefined> {
  const source =
    (await readModelFile(directory, 'chat_template.jinja')) ??
    templateSource((await readModelJson(directory, 'tokenizer_config.json', TokenizerConfig)) ?? {});
  return source === undefined ? undefined : new ChatTemplate(source, names);
}

/** The Jinja source in a configuration. */
export function templateSource(config: TokenizerConfig): string | undefined {
  const template = config.chat_template;
  if (typeof template === 'string' || !template) return template ?? undefined;
  return (template.find((named) => named.name === 'default') ?? template[0])?.template;
}

/**
 * @throws RadixkvError `invalid_value` when the model has no template.
 */
export function requireChatTemplate(template: ChatTemplate | undefined): ChatTemplate {
  if (template !== undefined) return template;
  throw new RadixkvError('invalid_value', 'this model has no chat template; use /v1/completions', {
    param: 'messages',
  });
}

/** Shadows the library's own `strftime_now`, which reads the clock. */
function withFixedDate(source: string): string {
  if (!source.includes('strftime_now')) return source;
  // The empty expression keeps a newline at the start of the source, which a block would swallow.
  return `{% set strftime_now = fixed_strftime_now %}{{ '' }}${source}`;
}

function fixedStrftime(format: string): string {
  return format.replace(/%-?(.)/g, (whole, letter: string) => FIXED_DATE[letter] ?? whole);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
