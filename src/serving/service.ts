/**
 * Serves completions: text → tokens → a sequence for the scheduler → events.
 *
 * Refuses here what can't be computed (too long, unknown token ids), so that the scheduler only sees sequences that
 * fit the model and the device.
 */
import { type KvCache, requireFit } from '../cache/kv-cache.js';
import type { Engine } from '../engine/engine.js';
import { RadixkvError } from '../errors.js';
import { encodeChat, withBos } from '../text/chat-prompt.js';
import { type ChatTemplate, requireChatTemplate } from '../text/chat-template.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { Choice } from './choice.js';
import type { CompletionEvent, CompletionRequest, CompletionService, ModelCard } from './completion.js';
import type { Scheduler } from './scheduler.js';
import { Sequence } from './sequence.js';

export interface ServiceParts {
  readonly model: ModelCard;
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate | undefined;
  readonly cache: KvCache;
  readonly engine: Engine;
  readonly scheduler: Scheduler;
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
    const prompt = this.#tokens(request);
    const answerTokensMax = this.#answerTokens(request, prompt.length);
    requireFit(cache, prompt.length + answerTokensMax, request.promptField);
    const sequence = new Sequence({
      request,
      prompt,
      answerTokensMax,
      now: () => performance.now(),
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

  #tokens(request: CompletionRequest): Int32Array {
    const { tokenizer, template } = this.#parts;
    const { prompt, promptField: param } = request;
    if (prompt.kind === 'tokens') {
      const unknown = prompt.tokens.find((token) => token >= tokenizer.vocab);
      if (unknown !== undefined) {
        throw new RadixkvError('invalid_value', `token ${unknown} is not in the vocabulary`, { param });
      }
      return this.#nonEmpty(Int32Array.from(prompt.tokens), param);
    }
    if (prompt.kind === 'text') {
      this.#checkLength(prompt.text.length, param);
      const tokens = tokenizer.encodeText(prompt.text);
      return this.#nonEmpty(tokenizer.addBos ? withBos(tokenizer, tokens) : tokens, param);
    }
    this.#checkLength(
      prompt.messages.reduce((sum, { content }) => sum + content.length, 0),
      param,
    );
    const options = { addGenerationPrompt: true };
    return encodeChat(tokenizer, requireChatTemplate(template), prompt.messages, options);
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
