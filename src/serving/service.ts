/**
 * Serves completions: text → tokens → a sequence for the scheduler → events.
 *
 * Refuses here what can't be computed (too long, unknown token ids), so that the scheduler only sees sequences that
 * fit the model and the device.
 */
import assert from 'node:assert/strict';
import { type KvCache, requireFit } from '../cache/kv-cache.js';
import type { Engine } from '../engine/engine.js';
import { RadixkvError } from '../errors.js';
import { encodeChat, withBos } from '../text/chat-prompt.js';
import { type ChatTemplate, requireChatTemplate } from '../text/chat-template.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { scratchTokens } from './blending.js';
import { Choice } from './choice.js';
import type {
  CompletionEvent,
  CompletionRequest,
  CompletionService,
  ModelCard,
  PromptDocument,
} from './completion.js';
import type { PassageBook } from './passage-book.js';
import type { Passage, PassageFinder } from './passages.js';
import type { Scheduler } from './scheduler.js';
import { type DocumentUse, NO_DOCUMENTS, Sequence } from './sequence.js';

export interface ServiceParts {
  readonly model: ModelCard;
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate | undefined;
  readonly cache: KvCache;
  readonly engine: Engine;
  readonly scheduler: Scheduler;
  readonly passages: PassageBook;
  /** Absent: no document has an id to be known by. */
  readonly documents: PassageFinder | undefined;
}

/** A request in the model's words. */
interface EncodedPrompt {
  readonly tokens: Int32Array;
  readonly documents: DocumentUse;
}

export class Service implements CompletionService {
  readonly #parts: ServiceParts;
  /** No token is longer, so a text of more than this many bytes a token can't fit the context. */
  readonly #tokenBytesMax: number;
  #isStopping = false;

  constructor(parts: ServiceParts) {
    this.#parts = parts;
    const { tokenizer } = parts;
    let longest = 1;
    for (let token = 0; token < tokenizer.vocab; token++) {
      longest = Math.max(longest, tokenizer.tokenBytes(token).length);
    }
    this.#tokenBytesMax = longest;
  }

  get model(): ModelCard {
    return this.#parts.model;
  }

  ready(): ReturnType<CompletionService['ready']> {
    if (this.#isStopping) return { ready: false, reason: 'the server is shutting down' };
    if (!this.#parts.engine.isReady) return { ready: false, reason: 'the engine is starting' };
    return { ready: true };
  }

  /** From now on new requests are refused; those under way go on. */
  stop(): void {
    this.#isStopping = true;
  }

  async *complete(request: CompletionRequest): AsyncIterable<CompletionEvent> {
    const sequence = this.#admit(request);
    yield* sequence.events;
  }

  #admit(request: CompletionRequest): Sequence {
    if (this.#isStopping) {
      throw new RadixkvError('shutting_down', 'the server is shutting down', { retryAfterS: 1 });
    }
    const { tokenizer, cache, scheduler } = this.#parts;
    this.#checkBias(request);
    const { tokens: prompt, documents: wanted } = this.#encode(request);
    const answerTokensMax = this.#answerTokens(request, prompt.length);
    requireFit(cache, prompt.length + answerTokensMax, request.promptField);
    const documents = this.#withRoom(request, wanted, prompt.length, answerTokensMax);
    const sequence = new Sequence({
      request,
      prompt,
      answerTokensMax,
      documents,
      now: () => performance.now(),
      peek: ({ accepts }) =>
        request.cache.mode === 'off' ? 0 : cache.peek(request.namespace, prompt, accepts),
      createChoice: (index, emit) =>
        new Choice({
          index,
          tokenizer,
          stop: request.stop,
          tokensMax: answerTokensMax,
          wantsLogprobs: request.sampling.topLogprobs !== undefined,
          emit,
        }),
    });
    scheduler.submit(sequence);
    return sequence;
  }

  #checkBias({ sampling }: CompletionRequest): void {
    for (const token of sampling.logitBias.keys()) {
      if (token < this.#parts.tokenizer.vocab) continue;
      throw new RadixkvError(
        'invalid_value',
        `logit_bias names token ${token}, which is not in the vocabulary`,
        {
          param: 'logit_bias',
        },
      );
    }
  }

  #encode(request: CompletionRequest): EncodedPrompt {
    const { prompt } = request;
    if (prompt.kind !== 'chat') return { tokens: this.#plainTokens(request), documents: NO_DOCUMENTS };
    const { tokenizer, template, passages } = this.#parts;
    const { messages, documents } = prompt;
    const found = documents.map((document, i) => this.#resolve(request.namespace, document, i));
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

  #plainTokens({ prompt, promptField: param }: CompletionRequest): Int32Array {
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

  #resolve(namespace: string, document: PromptDocument, index: number): Passage {
    if ('text' in document) return document;
    const { id } = document;
    const passage = this.#parts.documents?.find(namespace, id);
    if (passage !== undefined) return passage;
    throw new RadixkvError('document_not_found', `There is no document '${id}'.`, {
      param: `documents[${index}].id`,
    });
  }

  /** Blending takes device memory for a second run beside that of the request. */
  #withRoom(
    { cache: { mode } }: CompletionRequest,
    documents: DocumentUse,
    promptTokens: number,
    answerTokensMax: number,
  ): DocumentUse {
    const { order } = documents;
    const { cache } = this.#parts;
    if (order === undefined) return documents;
    const runs = [promptTokens + answerTokensMax, scratchTokens(promptTokens, order)];
    if (cache.fits(runs)) return documents;
    if (mode !== 'blend') return { ...documents, order: undefined, outcome: 'too_long' };
    throw new RadixkvError(
      'context_length_exceeded',
      `blending needs device memory for ${runs.join(' and ')} tokens at once (room for ${cache.tokensMax}); raise --device-bytes`,
      { param: 'documents' },
    );
  }

  /** Spares tokenising a text that can't fit anyway. A character is at least one byte. */
  #checkLength(characters: number, param: string): void {
    const { contextTokens } = this.#parts.model;
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

  #answerTokens({ maxTokens, promptField }: CompletionRequest, promptTokens: number): number {
    const { contextTokens } = this.#parts.model;
    const room = contextTokens - promptTokens;
    if (room < 1) {
      throw new RadixkvError(
        'context_length_exceeded',
        `the prompt has ${promptTokens} tokens; the context of ${contextTokens} leaves no room for an answer`,
        { param: promptField },
      );
    }
    if (maxTokens !== undefined && maxTokens > room) {
      throw new RadixkvError(
        'context_length_exceeded',
        `the prompt has ${promptTokens} tokens and max_tokens is ${maxTokens}, more than the context of ${contextTokens}`,
        { param: 'max_tokens' },
      );
    }
    return maxTokens ?? Math.min(room, Math.max(1, this.#parts.cache.tokensMax - promptTokens));
  }
}
