/**
 * A completion service without a model: words instead of tokens, answers that depend only on the prompt, and a
 * "cache" that remembers prompts by namespace. Keeps the rules of the border that the API relies on.
 */
import { once } from 'node:events';
import { RadixkvError } from '../../src/errors.js';
import {
  type CompletionEvent,
  type CompletionRequest,
  type CompletionService,
  NO_TOKENS,
  type TokenLogprob,
} from '../../src/serving/completion.js';

export type Reply = (request: CompletionRequest) => AsyncIterable<CompletionEvent>;

const VOCABULARY = [
  ' the',
  ' quick',
  ' brown',
  ' fox',
  ' 🦊',
  ' jumps',
  ' naïve',
  ' 猫',
  '\n',
  ' over',
  ' it',
];
const ANSWER_TOKENS = 24;

function promptTokens({ prompt }: CompletionRequest): string[] {
  if (prompt.kind === 'tokens') return prompt.tokens.map(String);
  const text = prompt.kind === 'text' ? prompt.text : prompt.messages.map((each) => each.content).join(' ');
  return text.split(/\s+/);
}

function ranked(token: string, logprob: number) {
  return { token, bytes: [...Buffer.from(token)], logprob };
}

function logprobOf(token: string, count: number): TokenLogprob {
  const top = [token, ...VOCABULARY.filter((each) => each !== token)].slice(0, count);
  return { ...ranked(token, -0.5), top: top.map((each, rank) => ranked(each, -0.5 - rank)) };
}

/** The tokens of a choice, cut at `maxTokens` and at the first stop string. */
function answerTokens(request: CompletionRequest, seed: number) {
  const { maxTokens, stop } = request;
  const length = Math.min(maxTokens ?? ANSWER_TOKENS, Math.max(ANSWER_TOKENS, maxTokens ?? 0));
  const tokens = Array.from({ length }, (_, at) => VOCABULARY[(seed + at * at) % VOCABULARY.length]!);
  const kept: string[] = [];
  for (const token of tokens) {
    const text = kept.join('') + token;
    const ends = stop.map((each) => text.indexOf(each)).filter((at) => at >= 0);
    if (ends.length > 0) {
      const rest = text.slice(kept.join('').length, Math.min(...ends));
      return { tokens: rest === '' ? kept : [...kept, rest], reason: 'stop' as const };
    }
    kept.push(token);
  }
  return { tokens: kept, reason: maxTokens === undefined ? ('stop' as const) : ('length' as const) };
}

export class FakeService implements CompletionService {
  readonly model = {
    id: 'fake/model-1',
    created: 1_700_000_000,
    contextTokens: 2048,
    fingerprint: 'fp_fake',
  };
  readonly requests: CompletionRequest[] = [];
  /** Requests whose event stream has not ended. */
  activeRequests = 0;
  unreadyReason: string | undefined;
  /** Replaces the built-in answer. */
  reply: Reply;
  /** After so many tokens of a choice the model "thinks" until the request is aborted. */
  stallAfterTokens = Number.POSITIVE_INFINITY;
  readonly #seen = new Set<string>();

  constructor(reply?: Reply) {
    this.reply = reply ?? ((request) => this.answer(request));
  }

  ready() {
    if (this.unreadyReason === undefined) return { ready: true } as const;
    return { ready: false, reason: this.unreadyReason } as const;
  }

  async *complete(request: CompletionRequest): AsyncGenerator<CompletionEvent> {
    this.requests.push(request);
    this.activeRequests++;
    try {
      if (this.unreadyReason !== undefined) throw new RadixkvError('shutting_down', this.unreadyReason);
      yield* this.reply(request);
    } finally {
      this.activeRequests--;
    }
  }

  async *answer(request: CompletionRequest): AsyncGenerator<CompletionEvent> {
    const prompt = promptTokens(request);
    if (prompt.length >= this.model.contextTokens) {
      throw new RadixkvError(
        'context_length_exceeded',
        `The prompt has ${prompt.length} tokens; the context holds ${this.model.contextTokens}.`,
        { param: request.promptField },
      );
    }
    const key = `${request.namespace} ${prompt.join(' ')}`;
    const cached = this.#seen.has(key) ? prompt.length - 1 : 0;
    this.#seen.add(key);
    let completionTokens = 0;
    for (let index = 0; index < request.n; index++) {
      const { tokens, reason } = answerTokens(request, prompt.length + index);
      for (const [at, token] of tokens.entries()) {
        if (at >= this.stallAfterTokens && !request.signal.aborted) await once(request.signal, 'abort');
        if (request.signal.aborted) return;
        completionTokens++;
        const { topLogprobs } = request.sampling;
        const logprobs = topLogprobs === undefined ? {} : { logprobs: [logprobOf(token, topLogprobs)] };
        yield { type: 'delta', index, text: token, ...logprobs };
      }
      yield { type: 'finish', index, reason };
    }
    yield {
      type: 'end',
      usage: {
        promptTokens: prompt.length,
        completionTokens,
        cachedTokens: { device: cached, host: 0, disk: 0 },
        blendedTokens: NO_TOKENS,
        computedTokens: prompt.length - cached,
      },
      timings: { queueMs: 1, loadMs: 0, prefillMs: 20, blend: undefined, decodeMs: 100, ttftMs: 21 },
    };
  }
}
