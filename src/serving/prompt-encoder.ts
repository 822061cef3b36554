/** The prompt of a request in the model's words: chat template, documents, tokenizer. */
import assert from 'node:assert/strict';
import { RadixkvError } from '../errors.js';
import { encodeChat, withBos } from '../text/chat-prompt.js';
import { type ChatTemplate, requireChatTemplate } from '../text/chat-template.js';
import type { Tokenizer } from '../text/tokenizer.js';
import type { ChatMessage, CompletionRequest, PromptDocument } from './completion.js';
import type { PassageBook } from './passage-book.js';
import type { Passage, PassageFinder } from './passages.js';
import { type DocumentUse, NO_DOCUMENTS } from './sequence.js';

export interface EncoderParts {
  readonly contextTokens: number;
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate | undefined;
  readonly passages: PassageBook;
  /** Absent: no document has an id to be known by. */
  readonly documents: PassageFinder | undefined;
}

/** The part of a request that its prompt is made of. */
export type EncodedRequest = Pick<
  CompletionRequest,
  'prompt' | 'promptField' | 'tenant' | 'namespace' | 'cache'
>;

export interface EncodedPrompt {
  readonly tokens: Int32Array;
  readonly documents: DocumentUse;
}

export class PromptEncoder {
  readonly #parts: EncoderParts;
  /** No token is longer, so a text of more than this many bytes a token can't fit the context. */
  readonly #tokenBytesMax: number;

  constructor(parts: EncoderParts) {
    this.#parts = parts;
    const { tokenizer } = parts;
    let longest = 1;
    for (let token = 0; token < tokenizer.vocab; token++) {
      longest = Math.max(longest, tokenizer.tokenBytes(token).length);
    }
    this.#tokenBytesMax = longest;
  }

  /** @throws RadixkvError for what has no tokens, can't fit the context, or names what is not known. */
  encode(request: EncodedRequest): EncodedPrompt {
    const encoded = this.#encode(request);
    const { contextTokens } = this.#parts;
    const { length } = encoded.tokens;
    if (length < contextTokens) return encoded;
    throw new RadixkvError(
      'context_length_exceeded',
      `the prompt has ${length} tokens; the context of ${contextTokens} leaves no room for an answer`,
      { param: request.promptField },
    );
  }

  #encode(request: EncodedRequest): EncodedPrompt {
    const { prompt } = request;
    if (prompt.kind !== 'chat') return { tokens: this.#plainTokens(request), documents: NO_DOCUMENTS };
    const { tokenizer, template, passages } = this.#parts;
    const { messages, documents } = prompt;
    const found = documents.map((document, i) => this.#resolve(request.tenant, document, i));
    const texts = [...messages.map(({ content }) => content), ...found.map(({ text }) => text)];
    this.#checkLength(
      texts.reduce((sum, text) => sum + text.length, 0),
      request.promptField,
    );
    const chat = requireChatTemplate(template);
    if (found.length === 0) {
      const tokens = encodeChat(tokenizer, chat, messages, { addGenerationPrompt: true });
      return { tokens, documents: NO_DOCUMENTS };
    }
    const { tokens, use } = passages.encode(chat, { messages, passages: found }, request);
    return { tokens, documents: { ...use, ids: documents.map(({ id }) => id) } };
  }

  /** The first messages of a chat, as they stand in it before others. @throws RadixkvError when the template refuses them. */
  encodeMessages(messages: readonly ChatMessage[]): Int32Array {
    const { tokenizer, template } = this.#parts;
    return encodeChat(tokenizer, requireChatTemplate(template), messages, { addGenerationPrompt: false });
  }

  #plainTokens({ prompt, promptField: param }: EncodedRequest): Int32Array {
    const { tokenizer } = this.#parts;
    assert(prompt.kind !== 'chat');
    if (prompt.kind === 'tokens') {
      const unknown = prompt.tokens.find((token) => token >= tokenizer.vocab);
      if (unknown !== undefined) {
        throw new RadixkvError('invalid_value', `token ${unknown} is not in the vocabulary`, { param });
      }
      return this.#nonEmpty(Int32Array.from(prompt.tokens), param);
    }
    this.#checkLength(prompt.text.length, param);
    const tokens = tokenizer.encodeText(prompt.text);
    return this.#nonEmpty(tokenizer.addBos ? withBos(tokenizer, tokens) : tokens, param);
  }

  #resolve(tenant: string, document: PromptDocument, index: number): Passage {
    if ('text' in document) return document;
    const { id } = document;
    const passage = this.#parts.documents?.find(tenant, id);
    if (passage !== undefined) return passage;
    throw new RadixkvError('document_not_found', `There is no document '${id}'.`, {
      param: `documents[${index}].id`,
    });
  }

  /** Spares tokenising a text that can't fit anyway. A character is at least one byte. */
  #checkLength(characters: number, param: string): void {
    const { contextTokens } = this.#parts;
    if (characters <= contextTokens * this.#tokenBytesMax) return;
    throw new RadixkvError(
      'context_length_exceeded',
      `the prompt of ${characters} characters is longer than the context of ${contextTokens} tokens`,
      { param },
    );
  }

  #nonEmpty(tokens: Int32Array, param: string): Int32Array {
    if (tokens.length > 0) return tokens;
    throw new RadixkvError('invalid_value', 'the prompt has no tokens', { param });
  }
}
