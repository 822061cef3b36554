/**
 * One answer in the making: sampled tokens in; text, log probabilities and the end of the answer out.
 *
 * Invariant: the emitted deltas joined are the answer's text up to the first stop string, never half a character, and
 * `finish` is emitted once. Knows no engine.
 */
import type { SampledToken } from '../engine/sampler.js';
import { StreamingDetokenizer } from '../text/detokenizer.js';
import { StopMatcher } from '../text/stop.js';
import type { Tokenizer } from '../text/tokenizer.js';
import type { CompletionEvent, FinishReason, TokenLogprob } from './completion.js';

export class Choice {
  readonly index: number;
  readonly #tokenizer: Tokenizer;
  readonly #detokenizer: StreamingDetokenizer;
  readonly #stop: StopMatcher;
  readonly #tokensMax: number;
  readonly #wantsLogprobs: boolean;
  readonly #emit: (event: CompletionEvent) => void;
  /** Log probabilities of tokens whose text is held back, and where it begins: a token goes out with its beginning. */
  #heldLogprobs: { readonly logprob: TokenLogprob; readonly start: number }[] = [];
  /** UTF-16 units of text drawn, and emitted, so far. */
  #drawnLength = 0;
  #emittedLength = 0;
  #tokens = 0;
  #reason: FinishReason | undefined;

  constructor(options: {
    readonly index: number;
    readonly tokenizer: Tokenizer;
    readonly stop: readonly string[];
    readonly tokensMax: number;
    readonly wantsLogprobs: boolean;
    readonly emit: (event: CompletionEvent) => void;
  }) {
    this.index = options.index;
    this.#tokenizer = options.tokenizer;
    this.#detokenizer = new StreamingDetokenizer(options.tokenizer);
    this.#stop = new StopMatcher(options.stop);
    this.#tokensMax = options.tokensMax;
    this.#wantsLogprobs = options.wantsLogprobs;
    this.#emit = options.emit;
  }

  /** Tokens drawn so far, the one that ended the answer included. */
  get tokens(): number {
    return this.#tokens;
  }

  get isFinished(): boolean {
    return this.#reason !== undefined;
  }

  /** Why it ended; undefined before. */
  get reason(): FinishReason | undefined {
    return this.#reason;
  }

  /** Takes the next token; emits what it makes certain. */
  push(sampled: SampledToken): void {
    this.#tokens++;
    if (this.#tokenizer.endTokens.has(sampled.token)) {
      this.#finish('stop');
      return;
    }
    if (this.#wantsLogprobs) {
      this.#heldLogprobs.push({ logprob: this.#logprob(sampled), start: this.#drawnLength });
    }
    const text = this.#detokenizer.push(sampled.token);
    this.#drawnLength += text.length;
    const { emit, stop } = this.#stop.push(text);
    if (stop !== undefined) {
      this.#delta(emit);
      this.#end('stop', stop);
    } else if (this.#tokens >= this.#tokensMax) {
      this.#delta(emit);
      this.#finish('length');
    } else this.#delta(emit);
  }

  /** Emits what is still held back, and the end. */
  #finish(reason: FinishReason): void {
    const rest = this.#stop.push(this.#detokenizer.flush());
    this.#delta(rest.stop === undefined ? rest.emit + this.#stop.flush() : rest.emit);
    this.#end(rest.stop === undefined ? reason : 'stop', rest.stop);
  }

  #end(reason: FinishReason, stopString: string | undefined): void {
    this.#reason = reason;
    const found = stopString === undefined ? {} : { stopString };
    this.#emit({ type: 'finish', index: this.index, reason, ...found });
  }

  #delta(text: string): void {
    if (text === '') return;
    this.#emittedLength += text.length;
    const begun = this.#heldLogprobs.filter(({ start }) => start < this.#emittedLength);
    this.#heldLogprobs = this.#heldLogprobs.slice(begun.length);
    const logprobs = begun.map(({ logprob }) => logprob);
    const event = { type: 'delta', index: this.index, text } as const;
    this.#emit(this.#wantsLogprobs ? { ...event, logprobs } : event);
  }

  #logprob(sampled: SampledToken): TokenLogprob {
    const describe = (token: number, logprob: number) => ({
      token: this.#tokenizer.tokenText(token),
      bytes: [...this.#tokenizer.tokenBytes(token)],
      logprob,
    });
    const top = sampled.top.map(({ token, logprob }) => describe(token, logprob));
    return { ...describe(sampled.token, sampled.logprob ?? Number.NaN), top };
  }
}
