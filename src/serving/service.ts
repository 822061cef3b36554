/**
 * Serves completions: text → tokens → a sequence for the scheduler → events.
 *
 * Refuses here what can't be computed (too long, unknown token ids), so that the scheduler only sees sequences that
 * fit the model and the device.
 */
import { type KvCache, requireFit } from '../cache/kv-cache.js';
import type { Engine } from '../engine/engine.js';
import { RadixkvError } from '../errors.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { scratchTokens } from './blending.js';
import { Choice } from './choice.js';
import type { CompletionEvent, CompletionRequest, CompletionService, ModelCard } from './completion.js';
import type { PromptEncoder } from './prompt-encoder.js';
import { type Scheduler, shuttingDown } from './scheduler.js';
import { type DocumentUse, Sequence } from './sequence.js';

export interface ServiceParts {
  readonly model: ModelCard;
  readonly tokenizer: Tokenizer;
  readonly prompts: PromptEncoder;
  readonly cache: KvCache;
  readonly engine: Engine;
  readonly scheduler: Scheduler;
  readonly chunkTokens: number;
  /** Whether parts of prompts may be kept for those who look at requests afterwards. */
  readonly keepsExcerpts: boolean;
}

export class Service implements CompletionService {
  readonly #parts: ServiceParts;
  #isStopping = false;

  constructor(parts: ServiceParts) {
    this.#parts = parts;
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

  /** Ends the requests under way with an error. @returns how many there were */
  cut(): number {
    return this.#parts.scheduler.cut();
  }

  async *complete(request: CompletionRequest): AsyncIterable<CompletionEvent> {
    const sequence = this.#admit(request);
    yield* sequence.events;
  }

  #admit(request: CompletionRequest): Sequence {
    if (this.#isStopping) {
      throw shuttingDown();
    }
    const { tokenizer, cache, scheduler, chunkTokens, keepsExcerpts } = this.#parts;
    this.#checkBias(request);
    const { tokens: prompt, documents: wanted } = this.#parts.prompts.encode(request);
    const answerTokensMax = this.#answerTokens(request, prompt.length);
    requireFit(cache, prompt.length + answerTokensMax, request.promptField);
    const documents = this.#withRoom(request, wanted, prompt.length, answerTokensMax);
    const sequence = new Sequence({
      request,
      prompt,
      answerTokensMax,
      documents,
      chunkTokens,
      keepsExcerpts,
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
    request.chargeTokens?.(prompt.length);
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

  #answerTokens({ maxTokens }: CompletionRequest, promptTokens: number): number {
    const { contextTokens } = this.#parts.model;
    const room = contextTokens - promptTokens;
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
