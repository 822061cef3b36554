/**
 * The spans of one completion: `chat <model>` with what was asked and used, in the words of OpenTelemetry's conventions
 * for generative AI, and below it its phases and their steps. Nothing of prompts or answers, and no keys.
 */
import { RadixkvError } from '../errors.js';
import {
  type CompletionEvent,
  type CompletionRequest,
  TIERS,
  type TierTokens,
  tokensOf,
} from '../serving/completion.js';
import type { Phase, RequestTrace, Step } from '../serving/request-trace.js';
import type { Endpoint } from '../serving/statistics.js';
import type { Attributes, TraceSpan } from './spans.js';

/** Below one completion; a long prompt has more tiles, and what gives way often more phases. */
const SPANS_MAX = 128;

const OPERATIONS: Readonly<Record<Endpoint, string>> = {
  'chat.completions': 'chat',
  messages: 'chat',
  completions: 'text_completion',
};

export interface CompletionAsked {
  readonly endpoint: Endpoint;
  readonly model: string;
  readonly id: string;
  readonly stream: boolean;
  readonly work: Pick<CompletionRequest, 'n' | 'maxTokens' | 'sampling' | 'cache' | 'priority'>;
}

export class CompletionTrace implements RequestTrace {
  readonly #span: TraceSpan;
  readonly #reasons: string[] = [];
  #phase: TraceSpan | undefined;
  #spans = 0;
  #leftOut = 0;

  constructor(parent: TraceSpan, asked: CompletionAsked) {
    const operation = OPERATIONS[asked.endpoint];
    this.#span = parent.child(`${operation} ${asked.model}`, askedAttributes(operation, asked));
  }

  phase(name: Phase): void {
    this.#phase?.end();
    this.#phase = this.#isFull() ? undefined : this.#span.child(name, {});
  }

  step(name: Step, startMs: number, tokens?: number): void {
    if (this.#isFull()) return;
    const attributes = { 'radixkv.tokens': tokens, ...(name === 'load' && { 'radixkv.tier': 'disk' }) };
    (this.#phase ?? this.#span).child(name, attributes, startMs).end();
  }

  /** Notes what the events say, and passes them on. */
  async *watch(events: AsyncIterable<CompletionEvent>): AsyncGenerator<CompletionEvent, void, undefined> {
    for await (const event of events) {
      if (event.type === 'finish') this.#reasons[event.index] = event.reason;
      if (event.type === 'end') this.#span.set(usedAttributes(event));
      yield event;
    }
  }

  /** @param error what the request failed with, or was refused for */
  end({ error, isAborted }: { readonly error: unknown; readonly isAborted: boolean }): void {
    this.#phase?.end();
    if (isAborted) this.#span.set({ 'error.type': 'aborted' });
    else if (error !== undefined) this.#span.fail(error instanceof RadixkvError ? error.code : 'internal');
    this.#span.set({
      'gen_ai.response.finish_reasons': this.#reasons.length > 0 ? [...this.#reasons] : undefined,
      'radixkv.spans_left_out': this.#leftOut > 0 ? this.#leftOut : undefined,
    });
    this.#span.end();
  }

  #isFull(): boolean {
    if (this.#spans < SPANS_MAX) {
      this.#spans++;
      return false;
    }
    this.#leftOut++;
    return true;
  }
}

function askedAttributes(operation: string, { model, id, stream, work }: CompletionAsked): Attributes {
  const { n, maxTokens, sampling, cache, priority } = work;
  return {
    'gen_ai.operation.name': operation,
    'gen_ai.provider.name': 'radixkv',
    'gen_ai.request.model': model,
    'gen_ai.response.model': model,
    'gen_ai.response.id': id,
    'gen_ai.output.type': 'text',
    'gen_ai.request.choice.count': n === 1 ? undefined : n,
    'gen_ai.request.max_tokens': maxTokens,
    'gen_ai.request.temperature': sampling.temperature,
    'gen_ai.request.top_p': sampling.topP,
    'gen_ai.request.top_k': sampling.topK === 0 ? undefined : sampling.topK,
    'gen_ai.request.seed': sampling.seed,
    'gen_ai.request.presence_penalty': sampling.presencePenalty,
    'gen_ai.request.frequency_penalty': sampling.frequencyPenalty,
    'radixkv.stream': stream,
    'radixkv.cache.mode': cache.mode,
    'radixkv.priority': priority,
  };
}

function byTier(what: string, tokens: TierTokens): Attributes {
  return Object.fromEntries(TIERS.map((tier) => [`radixkv.${what}_tokens.${tier}`, tokens[tier]]));
}

function usedAttributes({ usage, timings }: Extract<CompletionEvent, { type: 'end' }>): Attributes {
  const { cachedTokens, blendedTokens } = usage;
  return {
    'gen_ai.usage.input_tokens': usage.promptTokens,
    'gen_ai.usage.output_tokens': usage.completionTokens,
    'gen_ai.usage.cache_read.input_tokens': tokensOf(cachedTokens),
    ...byTier('cached', cachedTokens),
    ...byTier('blended', blendedTokens),
    'radixkv.computed_tokens': usage.computedTokens,
    'radixkv.ttft_ms': timings.ttftMs,
    'radixkv.queue_ms': timings.queueMs,
    'radixkv.load_ms': timings.loadMs,
  };
}
