/**
 * One request on its way through the scheduler: its prompt, its answers, the runs and samplers it holds, its clock.
 */
import type { Run } from '../cache/device-runs.js';
import type { Prefetch } from '../cache/kv-cache.js';
import type { SamplerId } from '../engine/protocol.js';
import type { Choice } from './choice.js';
import {
  type CompletionEvent,
  type CompletionRequest,
  NO_TOKENS,
  type TierTokens,
  type Timings,
  tokensOf,
  type Usage,
} from './completion.js';
import { EventQueue } from './event-queue.js';

/** An answer that is being decoded. */
export interface Branch {
  readonly choice: Choice;
  readonly sampler: SamplerId;
  readonly run: Run;
  /** Drawn, but its row is not computed yet. */
  nextToken: number;
}

export class Sequence {
  readonly request: CompletionRequest;
  readonly prompt: Int32Array;
  /** Tokens each answer may have. */
  readonly answerTokensMax: number;
  readonly choices: readonly Choice[];
  readonly events = new EventQueue<CompletionEvent>();
  /** Set when the prompt's run is open. */
  run: Run | undefined;
  cached: TierTokens = NO_TOKENS;
  /** What is being read from disk for it, until its run is open. */
  prefetch: Prefetch | undefined;
  #loading: 'not begun' | 'reading' | 'done' = 'not begun';
  #loadBeganAt = 0;
  #loadMs = 0;
  branches: Branch[] = [];
  /** Those that the engine still holds. */
  readonly samplers = new Set<SamplerId>();
  readonly #now: () => number;
  readonly #arrivedAt: number;
  #openedAt: number | undefined;
  #firstTokenAt: number | undefined;

  constructor(options: {
    readonly request: CompletionRequest;
    readonly prompt: Int32Array;
    readonly answerTokensMax: number;
    readonly createChoice: (index: number, emit: (event: CompletionEvent) => void) => Choice;
    /** Milliseconds, monotonic. */
    readonly now: () => number;
  }) {
    this.request = options.request;
    this.prompt = options.prompt;
    this.answerTokensMax = options.answerTokensMax;
    this.#now = options.now;
    this.#arrivedAt = options.now();
    const emit = (event: CompletionEvent) => this.events.push(event);
    this.choices = Array.from({ length: options.request.n }, (_, index) => options.createChoice(index, emit));
  }

  get isAborted(): boolean {
    return this.request.signal.aborted;
  }

  get isPrefilled(): boolean {
    return this.run !== undefined && this.run.length >= this.prompt.length;
  }

  /** What the disk has of the prompt is in host memory, as far as it can be. */
  get isLoaded(): boolean {
    return this.#loading === 'done';
  }

  get isLoading(): boolean {
    return this.#loading === 'reading';
  }

  loadBegan(): void {
    this.#loading = 'reading';
    this.#loadBeganAt = this.#now();
  }

  /** @param wasNeeded false when there was nothing to load. */
  loaded(wasNeeded: boolean): void {
    this.#loading = 'done';
    if (wasNeeded) this.#loadMs = this.#now() - this.#loadBeganAt;
  }

  opened(): void {
    this.#openedAt ??= this.#now();
  }

  firstToken(): void {
    this.#firstTokenAt ??= this.#now();
  }

  /** The last event: what the request used. */
  end(): void {
    this.events.push({ type: 'end', usage: this.#usage(), timings: this.#timings() });
    this.events.end();
  }

  #usage(): Usage {
    const cached = tokensOf(this.cached);
    // An aborted request may have computed a part only.
    const isComplete = this.#firstTokenAt !== undefined;
    const promptTokens = isComplete ? this.prompt.length : Math.max(cached, this.run?.length ?? 0);
    return {
      promptTokens,
      completionTokens: this.choices.reduce((sum, choice) => sum + choice.tokens, 0),
      cachedTokens: this.cached,
      blendedTokens: NO_TOKENS,
      computedTokens: promptTokens - cached,
    };
  }

  #timings(): Timings {
    const now = this.#now();
    const openedAt = this.#openedAt ?? now;
    const firstTokenAt = this.#firstTokenAt ?? now;
    return {
      queueMs: openedAt - this.#arrivedAt,
      loadMs: this.#loadMs,
      prefillMs: firstTokenAt - openedAt,
      blend: undefined,
      decodeMs: now - firstTokenAt,
      ttftMs: firstTokenAt - this.#arrivedAt,
    };
  }
}
