/**
 * A completion service without a model: words instead of tokens, answers that depend only on the prompt, and a
 * "cache" that remembers prompts and documents by namespace. Keeps the rules of the border that the API relies on.
 */
import { once } from 'node:events';
import { RadixkvError } from '../../src/errors.js';
import {
  type BlendExplanation,
  type CompletionEvent,
  type CompletionRequest,
  type CompletionService,
  NO_TOKENS,
  type TokenLogprob,
} from '../../src/serving/completion.js';
import type { Passage, PassageFinder } from '../../src/serving/passages.js';

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
const BLEND_TIMINGS = { prepareMs: 0, loadMs: 1, rotateMs: 2, selectMs: 3, recomputeMs: 4 };

const wordsOf = (text: string): string[] => text.split(/\s+/);

function promptTokens({ prompt }: CompletionRequest): string[] {
  if (prompt.kind === 'tokens') return prompt.tokens.map(String);
  if (prompt.kind === 'text') return wordsOf(prompt.text);
  return wordsOf(prompt.messages.map(({ content }) => content).join(' '));
}

const passageWords = ({ title, text }: Passage): string[] =>
  wordsOf(title === undefined ? text : `${title} ${text}`);

/** A document of a prompt: its tokens, at `[start, start + words.length)`. */
interface Placed {
  readonly id: string | undefined;
  readonly words: readonly string[];
  readonly start: number;
}

function ranked(token: string, logprob: number) {
  return { token, bytes: [...Buffer.from(token)], logprob };
}

function logprobOf(token: string, count: number): TokenLogprob {
  const top = [token, ...VOCABULARY.filter((each) => each !== token)].slice(0, count);
  return { ...ranked(token, -0.5), top: top.map((each, rank) => ranked(each, -0.5 - rank)) };
}

/** The stop string of `stop` that begins first in a text, and where. */
function firstStop(text: string, stop: readonly string[]) {
  const found = stop.map((string) => ({ string, at: text.indexOf(string) })).filter(({ at }) => at >= 0);
  return found.toSorted((a, b) => a.at - b.at)[0];
}

/** The tokens of a choice, cut at `maxTokens` and at the first stop string. */
function answerTokens(request: CompletionRequest, seed: number) {
  const { maxTokens, stop } = request;
  const length = Math.min(maxTokens ?? ANSWER_TOKENS, Math.max(ANSWER_TOKENS, maxTokens ?? 0));
  const tokens = Array.from({ length }, (_, at) => VOCABULARY[(seed + at * at) % VOCABULARY.length]!);
  const kept: string[] = [];
  for (const token of tokens) {
    const text = kept.join('') + token;
    const end = firstStop(text, stop);
    if (end !== undefined) {
      const rest = text.slice(kept.join('').length, end.at);
      const finish = { reason: 'stop', stopString: end.string } as const;
      return { tokens: rest === '' ? kept : [...kept, rest], finish };
    }
    kept.push(token);
  }
  const reason = maxTokens === undefined ? ('stop' as const) : ('length' as const);
  return { tokens: kept, finish: { reason } };
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
  /** Where documents that have only an id are looked up. */
  documents: PassageFinder | undefined;
  readonly #seen = new Set<string>();

  constructor(reply?: Reply) {
    this.reply = reply ?? ((request) => this.answer(request));
  }

  /** The requests, but for what each has of its own. */
  get asked() {
    const own = { id: undefined, signal: undefined, chargeTokens: undefined };
    return this.requests.map((request) => ({ ...request, ...own }));
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

  /** Runs `body` while requests are answered with `reply`. */
  async whileReplying(reply: Reply, body: () => Promise<void>): Promise<void> {
    const usual = this.reply;
    this.reply = reply;
    try {
      await body();
    } finally {
      this.reply = usual;
    }
  }

  /** A reply whose engine fails after the first piece of text. */
  async *breakInText(request: CompletionRequest): AsyncGenerator<CompletionEvent> {
    for await (const event of this.answer(request)) {
      yield event;
      if (event.type === 'delta') throw new RadixkvError('engine_failed', 'The engine stopped.');
    }
  }

  async *answer(request: CompletionRequest): AsyncGenerator<CompletionEvent> {
    const documents = this.#placed(request);
    const prompt = [...documents.flatMap(({ words }) => words), ...promptTokens(request)];
    if (prompt.length >= this.model.contextTokens) {
      throw new RadixkvError(
        'context_length_exceeded',
        `The prompt has ${prompt.length} tokens; the context holds ${this.model.contextTokens}.`,
        { param: request.promptField },
      );
    }
    request.chargeTokens?.(prompt.length);
    const reuse = this.#reuse(request, prompt, documents);
    const usage = {
      promptTokens: prompt.length,
      cachedTokens: { ...NO_TOKENS, device: reuse.cached },
      blendedTokens: { ...NO_TOKENS, host: reuse.blended },
      computedTokens: prompt.length - reuse.cached - reuse.blended,
    };
    yield { type: 'prompt', usage };
    let completionTokens = 0;
    for (let index = 0; index < request.n; index++) {
      const { tokens, finish } = answerTokens(request, prompt.length + index);
      for (const [at, token] of tokens.entries()) {
        if (at >= this.stallAfterTokens && !request.signal.aborted) await once(request.signal, 'abort');
        if (request.signal.aborted) return;
        completionTokens++;
        const { topLogprobs } = request.sampling;
        const logprobs = topLogprobs === undefined ? {} : { logprobs: [logprobOf(token, topLogprobs)] };
        yield { type: 'delta', index, text: token, ...logprobs };
      }
      yield { type: 'finish', index, ...finish };
    }
    yield {
      type: 'end',
      usage: { ...usage, completionTokens },
      timings: {
        queueMs: 1,
        loadMs: 0,
        prefillMs: 20,
        blend: reuse.blended > 0 ? BLEND_TIMINGS : undefined,
        decodeMs: 100,
        ttftMs: 21,
      },
      ...(request.cache.explain && { explanation: reuse.explanation }),
    };
  }

  #placed({ tenant, prompt }: CompletionRequest): Placed[] {
    if (prompt.kind !== 'chat') return [];
    let start = 0;
    return prompt.documents.map((document, index) => {
      const passage = 'text' in document ? document : this.documents?.find(tenant, document.id);
      if (passage === undefined) {
        throw new RadixkvError('document_not_found', 'There is no such document.', {
          param: `documents[${index}].id`,
        });
      }
      const words = passageWords(passage);
      const placed = { id: document.id, words, start };
      start += words.length;
      return placed;
    });
  }

  /** A prompt that was seen whole is exact; else documents that were seen are blended, but for their first tokens. */
  #reuse({ namespace, cache }: CompletionRequest, prompt: readonly string[], documents: readonly Placed[]) {
    const { mode, selector = 'heads', recomputeRatio: ratio = 0.25 } = cache;
    const has = (words: readonly string[]) =>
      mode !== 'off' && this.#seen.has(`${namespace} ${words.join(' ')}`);
    const isExact = has(prompt);
    const reused = documents.filter(({ words }) => !isExact && mode !== 'exact' && has(words));
    const heads = reused.flatMap(({ words, start }) =>
      Array.from({ length: Math.ceil(words.length * ratio) }, (_, at) => start + at),
    );
    if (mode !== 'off')
      for (const words of [prompt, ...documents.map((each) => each.words)]) this.#keep(namespace, words);
    const explanation: BlendExplanation = {
      outcome: documents.length === 0 ? 'no_documents' : reused.length > 0 ? 'blended' : 'exact',
      selector: reused.length > 0 ? selector : undefined,
      ratio: reused.length > 0 ? ratio : undefined,
      prefixTokens: isExact ? prompt.length - 1 : 0,
      documents: documents.map((document, index) => ({
        index,
        id: document.id,
        start: document.start,
        end: document.start + document.words.length,
        source: isExact ? 'prefix' : reused.includes(document) ? 'host' : 'computed',
      })),
      recomputed: heads,
    };
    return {
      cached: explanation.prefixTokens,
      blended: reused.reduce((sum, { words }) => sum + words.length, 0) - heads.length,
      explanation,
    };
  }

  #keep(namespace: string, words: readonly string[]): void {
    this.#seen.add(`${namespace} ${words.join(' ')}`);
  }
}
