/**
 * One request on its way through the scheduler: its prompt, its answers, the runs and samplers it holds, its clock.
 */
import type { Parting } from '#radix';
import type { Accepts, Run } from '../cache/device-runs.js';
import type { Prefetch } from '../cache/kv-cache.js';
import type { NodeRows } from '../cache/prefix-cache.js';
import type { SetAside } from '../cache/set-aside.js';
import type { SamplerId } from '../engine/protocol.js';
import type { SampledToken } from '../engine/sampler.js';
import type { Blending, BlendOrder } from './blending.js';
import type { Choice } from './choice.js';
import {
  type BlendExplanation,
  type CompletionEvent,
  type CompletionRequest,
  mapTiers,
  NO_TOKENS,
  type PromptUsage,
  plus,
  type TierTokens,
  type Timings,
  tokensOf,
} from './completion.js';
import type { Phase, PhaseSpan, RequestCourse, ReusedDocument } from './course.js';
import { EventQueue } from './event-queue.js';
import { excerptOf, missOf } from './miss.js';
import type { Waiting } from './policy.js';

/** An answer that is being decoded. */
export interface Branch {
  readonly sequence: Sequence;
  readonly choice: Choice;
  readonly sampler: SamplerId;
  readonly run: Run;
  /** The run has so many, or is to have them before the answer goes on. */
  readonly rows: number;
  /** Drawn, but its row is not computed yet. */
  nextToken: number;
}

/** An answer that gave way to others: its rows are not on the device. */
export interface PausedAnswer extends Omit<Branch, 'run' | 'rows' | 'sampler'> {
  /** Undefined: lost with the engine, and to be made again. */
  readonly sampler: SamplerId | undefined;
  readonly saved: SetAside;
}

/** How a prompt's documents are to be used. */
export interface DocumentUse {
  /** Undefined: the prompt is computed exactly, for the reason in `outcome`. */
  readonly order: BlendOrder | undefined;
  readonly outcome: BlendExplanation['outcome'];
  readonly ids: readonly (string | undefined)[];
}

/** Rows that it had are still to be prefilled. */
export function isBehind({ run, rows }: Branch): boolean {
  return run.length < rows;
}

/** Tokens of a reused prefix that are kept to tell how it begins. */
const NODE_EXCERPT_TOKENS = 32;

/** How long the length of a cached prefix is taken for what it was. */
const PEEKED_FOR_MS = 200;

export const NO_DOCUMENTS: DocumentUse = { order: undefined, outcome: 'no_documents', ids: [] };

export class Sequence implements Waiting {
  readonly request: CompletionRequest;
  readonly prompt: Int32Array;
  /** Tokens each answer may have. */
  readonly answerTokensMax: number;
  readonly choices: readonly Choice[];
  readonly documents: DocumentUse;
  /** Prompt tokens up to which ordinary prefill computes: to the first passage that is blended, if any. */
  exactEnd: number;
  /** As far as ordinary prefill goes while passages are being loaded: at no cost, since it would wait. */
  hiddenEnd = 0;
  readonly events = new EventQueue<CompletionEvent>();
  /** Set when the prompt's run is open. */
  run: Run | undefined;
  cached: TierTokens = NO_TOKENS;
  /** Not exact: of a blended prompt that this one continues, or from a lossy copy. */
  continued: TierTokens = NO_TOKENS;
  /** Reused rows that the tree knew. */
  nodes: readonly NodeRows[] = [];
  /** Where its prompt left what was cached; undefined: nobody looked. */
  parting: Parting | undefined;
  /** Set when the run is open and has still passages to be blended, and then its steps once they began. */
  blending: Blending | undefined;
  blendSteps: AsyncGenerator<void, readonly SampledToken[], void> | undefined;
  /** What is being read from disk for it, until its run is open. */
  prefetch: Prefetch | undefined;
  #loading: 'not begun' | 'reading' | 'done' = 'not begun';
  #loadBeganAt = 0;
  #loadMs = 0;
  branches: Branch[] = [];
  /** Not empty: it was preempted, and waits to go on. */
  paused: PausedAnswer[] = [];
  /** How often it was begun again after the engine failed; a step that began before that can't fail it. */
  retries = 0;
  /** Rings when its deadline is over. */
  alarm: NodeJS.Timeout | undefined;
  /** Milliseconds of the engine that its tenant was charged for before they were spent. */
  prepaidMs = 0;
  /** Those that the engine still holds. */
  readonly samplers = new Set<SamplerId>();
  #blendBeganAt: number | undefined;
  /** Times when it gave way and went on, in turn. */
  readonly #pauses: number[] = [];
  #regretted: TierTokens = NO_TOKENS;
  readonly #chunkTokens: number;
  readonly #keepsExcerpts: boolean;
  readonly #now: () => number;
  readonly #peek: (sequence: Sequence) => number;
  #peeked: { readonly tokens: number; readonly at: number } | undefined;
  readonly arrivedAt: number;
  readonly deadlineAt: number | undefined;
  /** Of its prompt, before it gave way. */
  #rowsOnce = 0;
  #openedAt: number | undefined;
  #firstTokenAt: number | undefined;

  constructor(options: {
    readonly request: CompletionRequest;
    readonly prompt: Int32Array;
    readonly answerTokensMax: number;
    readonly documents: DocumentUse;
    readonly chunkTokens: number;
    /** Whether its course may have parts of its prompt. */
    readonly keepsExcerpts: boolean;
    readonly createChoice: (index: number, emit: (event: CompletionEvent) => void) => Choice;
    /** Milliseconds, monotonic. */
    readonly now: () => number;
    /** Prompt tokens that are cached now. */
    readonly peek: (sequence: Sequence) => number;
  }) {
    this.request = options.request;
    this.prompt = options.prompt;
    this.answerTokensMax = options.answerTokensMax;
    this.documents = options.documents;
    this.exactEnd = this.#firstBlended;
    this.#chunkTokens = options.chunkTokens;
    this.#keepsExcerpts = options.keepsExcerpts;
    this.#now = options.now;
    this.#peek = options.peek;
    this.arrivedAt = options.now();
    const { deadlineMs } = options.request;
    this.deadlineAt = deadlineMs === undefined ? undefined : this.arrivedAt + deadlineMs;
    options.request.trace?.phase('queue');
    const emit = (event: CompletionEvent) => this.events.push(event);
    this.choices = Array.from({ length: options.request.n }, (_, index) => options.createChoice(index, emit));
  }

  /** What may be reused for it, beside exact rows. */
  get accepts(): Accepts {
    if (this.documents.order !== undefined) return 'blended';
    return this.request.cache.mode === 'exact' ? 'exact' : 'lossy';
  }

  get isAborted(): boolean {
    return this.request.signal.aborted;
  }

  get tenant(): string {
    return this.request.tenant;
  }

  get priority(): number {
    return this.request.priority;
  }

  get tokens(): number {
    return this.prompt.length + this.choices.reduce((sum, choice) => sum + choice.tokens, 0);
  }

  get hasBegun(): boolean {
    return this.#openedAt !== undefined;
  }

  get isPrefilled(): boolean {
    return this.#firstTokenAt !== undefined;
  }

  /** As of a moment ago: looking takes time. */
  cachedTokens(): number {
    const at = this.#now();
    if (this.#peeked === undefined || at - this.#peeked.at > PEEKED_FOR_MS) {
      this.#peeked = { tokens: this.#peek(this), at };
    }
    return this.#peeked.tokens;
  }

  get isLate(): boolean {
    return !this.isPrefilled && this.deadlineAt !== undefined && this.#now() >= this.deadlineAt;
  }

  /** What the disk has of the prompt is in host memory, as far as it can be. */
  get isLoaded(): boolean {
    return this.#loading === 'done';
  }

  get isLoading(): boolean {
    return this.#loading === 'reading';
  }

  /** It is open and has rows to prefill now: of its prompt, or of answers that went on after they were preempted. */
  get canCompute(): boolean {
    if (this.isPrefilled) return this.branches.some(isBehind);
    return this.isLoaded || this.run!.length < this.hiddenEnd;
  }

  loadBegan(): void {
    this.#loading = 'reading';
    this.#loadBeganAt = this.#now();
  }

  /** @param wasNeeded false when there was nothing to load. */
  loaded(wasNeeded: boolean): void {
    this.#loading = 'done';
    if (!wasNeeded) return;
    this.#loadMs = this.#now() - this.#loadBeganAt;
    this.request.trace?.step('load', this.#loadBeganAt);
  }

  /**
   * It gave way before its first token: what was computed is cached, and it is opened again.
   * @param rows that its run had
   */
  beginAgain(rows: number): void {
    this.#rowsOnce = Math.max(this.#rowsOnce, rows);
    if (this.blending !== undefined) this.regrets(this.blending.regretted);
    this.#loading = 'not begun';
    this.exactEnd = this.#firstBlended;
    this.hiddenEnd = 0;
    this.run = undefined;
    this.blending = undefined;
    this.blendSteps = undefined;
  }

  get #firstBlended(): number {
    return this.documents.order?.segments[0]?.start ?? this.prompt.length;
  }

  opened(): void {
    if (this.#openedAt !== undefined) this.resumed();
    this.#openedAt ??= this.#now();
    this.request.trace?.phase('prefill');
  }

  /** Others go first now. */
  gaveWay(): void {
    this.#pauses.push(this.#now());
  }

  /** It goes on. */
  resumed(): void {
    this.#pauses.push(this.#now());
  }

  blendBegan(): void {
    this.#blendBeganAt ??= this.#now();
  }

  /** Tokens were computed for it only since they had been evicted. */
  regrets(tokens: TierTokens): void {
    this.#regretted = plus(this.#regretted, tokens);
  }

  /** The prompt is computed, and its answers begin: once. */
  firstToken(): void {
    this.#firstTokenAt = this.#now();
    this.request.trace?.phase('decode');
    this.events.push({ type: 'prompt', usage: this.#promptUsage() });
  }

  /** The last event: what the request used. */
  end(): void {
    const wantsExplanation = this.request.cache.explain && this.#firstTokenAt !== undefined;
    const explanation = wantsExplanation ? { explanation: this.#explanation() } : {};
    const completionTokens = this.choices.reduce((sum, choice) => sum + choice.tokens, 0);
    const usage = { ...this.#promptUsage(), completionTokens };
    const course = this.#course();
    this.events.push({ type: 'end', usage, timings: this.#timings(), ...explanation, course });
    this.events.end();
  }

  #promptUsage(): PromptUsage {
    // An aborted request may have computed a part only.
    const isComplete = this.#firstTokenAt !== undefined;
    const blendedTokens = this.blending !== undefined && isComplete ? this.#reused() : this.continued;
    const reused = tokensOf(this.cached) + tokensOf(blendedTokens);
    const promptTokens = isComplete
      ? this.prompt.length
      : Math.max(reused, this.#rowsOnce, this.run?.length ?? 0);
    return {
      promptTokens,
      cachedTokens: this.cached,
      blendedTokens,
      computedTokens: promptTokens - reused,
    };
  }

  /** What it found at first counts as found, though it may have been gone when it was opened again. */
  #reused(): TierTokens {
    const reused = this.blending!.reused(tokensOf(this.cached) + tokensOf(this.continued));
    return mapTiers((tier) => this.continued[tier] + reused[tier]);
  }

  #explanation(): BlendExplanation {
    const { order, outcome, ids } = this.documents;
    const { blending } = this;
    const isBlended = blending !== undefined;
    return {
      outcome: order !== undefined && !isBlended ? 'in_prefix' : outcome,
      selector: isBlended ? order?.selector : undefined,
      ratio: isBlended ? order?.ratio : undefined,
      prefixTokens: tokensOf(this.cached) + tokensOf(this.continued),
      documents: (order?.segments ?? []).map((placed) => {
        const { index, start, end, row } = placed;
        const source = blending?.source(placed);
        const isComputed = source !== undefined && source.computedFrom < row + end - start;
        return {
          index,
          id: ids[index],
          start,
          end,
          source: isComputed ? 'computed' : (source?.tier ?? 'prefix'),
        };
      }),
      recomputed: [...(blending?.recomputed ?? [])],
    };
  }

  #course(): RequestCourse {
    const excerpt = (start: number) =>
      this.#keepsExcerpts ? this.prompt.slice(start, start + NODE_EXCERPT_TOKENS) : undefined;
    return {
      spans: this.#spans(),
      finishReasons: this.choices.map(({ reason }) => reason),
      regretted: plus(this.#regretted, this.blending?.regretted ?? NO_TOKENS),
      miss: this.#miss(),
      nodes: this.nodes.map(({ key, start, rows }) => ({
        key,
        start,
        tokens: rows,
        excerpt: excerpt(start),
      })),
      documents: this.#documents(),
    };
  }

  #miss(): RequestCourse['miss'] {
    const { parting, prompt } = this;
    if (parting === undefined || this.#openedAt === undefined) return undefined;
    const cached = tokensOf(this.cached) + tokensOf(this.continued);
    const miss = missOf(prompt, cached, { parting, chunkTokens: this.#chunkTokens });
    return (
      miss && { ...miss, excerpt: this.#keepsExcerpts ? excerptOf(prompt, miss, parting.next) : undefined }
    );
  }

  #documents(): ReusedDocument[] {
    const prefix = tokensOf(this.cached) + tokensOf(this.continued);
    return (this.documents.order?.segments ?? []).flatMap((placed) => {
      const id = this.documents.ids[placed.index];
      if (id === undefined) return [];
      const inPrefix = Math.max(0, Math.min(placed.end, prefix) - placed.start);
      return [{ id, tokens: inPrefix + (this.blending?.reusedOf(placed, prefix) ?? 0) }];
    });
  }

  #spans(): PhaseSpan[] {
    const endedAt = this.#now();
    const openedAt = this.#openedAt ?? endedAt;
    const firstTokenAt = this.#firstTokenAt ?? endedAt;
    const spans: PhaseSpan[] = [];
    const add = (phase: Phase, from: number, to: number) =>
      spans.push({ phase, startMs: from - this.arrivedAt, durationMs: to - from });
    add('queue', this.arrivedAt, openedAt);
    if (this.#loadMs > 0) add('load', this.#loadBeganAt, this.#loadBeganAt + this.#loadMs);
    if (this.#openedAt !== undefined) add('prefill', openedAt, firstTokenAt);
    if (this.#blendBeganAt !== undefined) add('blend', this.#blendBeganAt, firstTokenAt);
    if (this.#firstTokenAt !== undefined) add('decode', firstTokenAt, endedAt);
    for (let i = 0; i < this.#pauses.length; i += 2)
      add('paused', this.#pauses[i]!, this.#pauses[i + 1] ?? endedAt);
    return spans;
  }

  #timings(): Timings {
    const now = this.#now();
    const openedAt = this.#openedAt ?? now;
    const firstTokenAt = this.#firstTokenAt ?? now;
    return {
      queueMs: openedAt - this.arrivedAt,
      loadMs: this.#loadMs,
      prefillMs: firstTokenAt - openedAt,
      blend: this.blending?.timings,
      decodeMs: now - firstTokenAt,
      ttftMs: firstTokenAt - this.arrivedAt,
    };
  }
}
