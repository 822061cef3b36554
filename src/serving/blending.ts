/**
 * Computes the first token of a prompt by reusing the KV of its passages (CacheBlend): one tile of the engine after
 * another, so that others can compute in between.
 *
 *   place passages → move their keys → choose tokens → compute chosen and new tokens → put their rows in place
 *
 * The prompt's run holds an exact prefix up to the first passage or beyond. A scratch run of the same size holds first
 * one passage after another, then the keys the computed rows read (blend/plan.ts). What is recomputed replaces what was
 * reused, row by row, so the run ends up with the prompt's rows in their order.
 * Source: CacheBlend (Yao et al., EuroSys 2025), with a mask by position.
 */
import {
  layoutSegments,
  type Measurement,
  planBlend,
  reusedTokens,
  SELECTORS,
  type SegmentLayout,
  type SelectorName,
} from '#blend';
import type { Run } from '../cache/device-runs.js';
import type { KvCache, Prefetch } from '../cache/kv-cache.js';
import type { Engine } from '../engine/engine.js';
import { consecutive } from '../engine/feeds.js';
import type { EngineRequest, EngineResults, Op, SamplerId } from '../engine/protocol.js';
import type { SampledToken } from '../engine/sampler.js';
import { type BlendTimings, NO_TOKENS, plus, type TierTokens } from './completion.js';
import { fillSegment, type Segment, type SegmentSource } from './segment.js';

/** A passage at its place in a prompt: prompt tokens `[start, end)` are the segment's from row `row` on. */
export interface PlacedSegment {
  /** Of the document in the request. */
  readonly index: number;
  readonly segment: Segment;
  readonly start: number;
  readonly end: number;
  readonly row: number;
}

/** How a prompt is to be blended. */
export interface BlendOrder {
  /** In order, apart. */
  readonly segments: readonly PlacedSegment[];
  readonly selector: SelectorName;
  readonly ratio: number;
}

/** Rows of the scratch run: for the prompt and a row of padding, and for each segment. */
export function scratchTokens(promptTokens: number, { segments }: BlendOrder): number {
  return Math.max(promptTokens + 1, ...segments.map(({ segment }) => segment.tokens.length));
}

/** Question tokens that choose: the last ones. */
const SCORED_TOKENS_MAX = 256;

export class Blending {
  readonly #cache: KvCache;
  readonly #engine: Engine;
  readonly #prompt: Int32Array;
  readonly #order: BlendOrder;
  readonly #run: Run;
  readonly #scratch: Run;
  readonly #prefetch: Prefetch | undefined;
  readonly #tileTokens: () => number;
  readonly #sources = new Map<PlacedSegment, SegmentSource>();
  #timings = { prepareMs: 0, loadMs: 0, rotateMs: 0, selectMs: 0, recomputeMs: 0 };
  #chosen: Int32Array = new Int32Array();
  #isChosen: ReadonlySet<number> = new Set();
  /** Rows that the run had before passages were placed. */
  #prefixTokens = 0;

  /** Of the passages, those that the run does not cover are placed. */
  constructor(parts: {
    readonly cache: KvCache;
    readonly engine: Engine;
    readonly prompt: Int32Array;
    readonly order: BlendOrder;
    /** Rows `[0, length)` are those of the prompt, at least up to the first passage that is placed. */
    readonly run: Run;
    /** Room for `scratchTokens`. */
    readonly scratch: Run;
    readonly prefetch: Prefetch | undefined;
    readonly tileTokens: () => number;
  }) {
    this.#cache = parts.cache;
    this.#engine = parts.engine;
    this.#prompt = parts.prompt;
    this.#order = parts.order;
    this.#run = parts.run;
    this.#scratch = parts.scratch;
    this.#prefetch = parts.prefetch;
    this.#tileTokens = parts.tileTokens;
  }

  get timings(): BlendTimings {
    return { ...this.#timings };
  }

  /** Positions of reused tokens that were recomputed, ascending. */
  get recomputed(): Int32Array {
    return this.#chosen;
  }

  /** Frees what it holds when it is not to begin; once begun, that happens as it ends. */
  drop(): void {
    this.#cache.discard(this.#scratch);
  }

  /** Where the rows of a passage came from; undefined where the prefix had them. */
  source(segment: PlacedSegment): SegmentSource | undefined {
    return this.#sources.get(segment);
  }

  /** Prompt tokens from position `from` on that were reused and not recomputed, by tier. */
  reused(from: number): TierTokens {
    const tokens = { device: 0, host: 0, disk: 0, remote: 0 };
    for (const [placed, { tier }] of this.#sources) tokens[tier] += this.reusedOf(placed, from);
    return tokens;
  }

  /** The same of one passage. */
  reusedOf(placed: PlacedSegment, from: number): number {
    const source = this.#sources.get(placed);
    if (source === undefined) return 0;
    let tokens = 0;
    for (let position = Math.max(from, this.#first(placed)); position < placed.end; position++) {
      const isCached = placed.row + position - placed.start < source.computedFrom;
      if (isCached && !this.#isChosen.has(position)) tokens++;
    }
    return tokens;
  }

  /** Tokens of passages that were computed only since they had been evicted. */
  get regretted(): TierTokens {
    return [...this.#sources.values()].reduce((sum, { regretted }) => plus(sum, regretted), NO_TOKENS);
  }

  /**
   * Yields after each tile; frees the scratch run, however it ends.
   *
   * @param createSamplers called before the last tile, whose last row's logits they draw from
   * @returns what each sampler drew
   * @throws RadixkvError `engine_failed`.
   */
  async *compute(
    createSamplers: () => readonly SamplerId[],
  ): AsyncGenerator<void, readonly SampledToken[], void> {
    try {
      const prefixTokens = this.#run.length;
      this.#prefixTokens = prefixTokens;
      const placed = this.#order.segments.filter(({ end }) => end > prefixTokens);
      for (const segment of placed) yield* this.#place(segment);
      const layout = layoutSegments({
        promptTokens: this.#prompt.length,
        prefixTokens,
        segments: placed.map(({ start, end, row }) => ({ start, end, storedStart: row })),
      });
      await this.#timed('rotateMs', { op: 'rotate', run: this.#run.id, spans: layout.reused });
      yield;
      this.#chosen = await this.#select(layout);
      this.#isChosen = new Set(this.#chosen);
      yield;
      return yield* this.#recompute(layout, createSamplers);
    } finally {
      this.#cache.discard(this.#scratch);
    }
  }

  /** The first position of a passage that is placed: the prefix may reach into it. */
  #first({ start }: PlacedSegment): number {
    return Math.max(start, this.#prefixTokens);
  }

  async *#place(placed: PlacedSegment): AsyncGenerator<void, void, void> {
    const startedAt = performance.now();
    let prepareMs = 0;
    const source = yield* fillSegment(this.#parts(), this.#scratch, placed.segment, {
      prefetch: this.#prefetch,
      tileTokens: this.#tileTokens,
      onComputed: (_rows, ms) => {
        prepareMs += ms;
      },
    });
    this.#sources.set(placed, source);
    const first = this.#first(placed);
    await this.#engine.call({
      op: 'scatter',
      from: this.#scratch.id,
      to: this.#run.id,
      start: placed.row + first - placed.start,
      rows: consecutive(first, placed.end - first),
    });
    this.#timings.prepareMs += prepareMs;
    if (prepareMs === 0) this.#timings.loadMs += performance.now() - startedAt;
  }

  async #select(layout: SegmentLayout): Promise<Int32Array> {
    const { selector, ratio } = this.#order;
    const selection = SELECTORS[selector]()(reusedTokens(layout), ratio);
    let step = selection.next();
    while (step.done !== true) step = selection.next(await this.#measure(step.value, layout));
    return step.value;
  }

  async #measure(measurement: Measurement, layout: SegmentLayout): Promise<Float32Array> {
    const byPosition =
      measurement.kind === 'attention'
        ? await this.#attention(layout)
        : await this.#deviations(layout, measurement);
    return Float32Array.from(measurement.positions, (position) => byPosition[position]!);
  }

  /** What the question, the new tokens at the end, attends to, by position. */
  async #attention(layout: SegmentLayout): Promise<Float32Array> {
    const { end, start: spanStart } = layout.newSpans.at(-1)!;
    const start = Math.max(spanStart, end - SCORED_TOKENS_MAX);
    const known = Int32Array.from([
      ...consecutive(0, layout.prefixTokens),
      ...reusedTokens(layout).positions,
    ]);
    let run = this.#run;
    // Rows between that are not computed yet are left out: the rows that are read follow each other.
    if (known.length < spanStart) {
      run = this.#scratch;
      await this.#timed('selectMs', { op: 'gather', from: this.#run.id, to: run.id, at: 0, rows: known });
    }
    const { attention } = await this.#timed<'score'>('selectMs', {
      op: 'score',
      run: run.id,
      start: known.length,
      tokens: this.#prompt.slice(start, end),
      positions: consecutive(start, end - start),
    });
    const byPosition = new Float32Array(this.#prompt.length);
    for (const [i, position] of known.entries()) byPosition[position] = attention[i]!;
    return byPosition;
  }

  async #deviations(
    layout: SegmentLayout,
    { of, relative }: Extract<Measurement, { kind: 'deviation' }>,
  ): Promise<Float32Array> {
    const end = layout.reused.at(-1)!.end;
    const byPosition = new Float32Array(this.#prompt.length);
    for (let start = layout.prefixTokens; start < end; ) {
      const tokens = this.#prompt.slice(start, Math.min(end, start + this.#tileTokens()));
      const probed = await this.#timed<'probe'>('selectMs', {
        op: 'probe',
        run: this.#run.id,
        start,
        tokens,
      });
      const [distance, norm] = of === 'K' ? [probed.k, probed.freshK] : [probed.v, probed.freshV];
      byPosition.set(relative ? distance.map((value, i) => value / norm[i]!) : distance, start);
      start += tokens.length;
    }
    return byPosition;
  }

  async *#recompute(
    layout: SegmentLayout,
    createSamplers: () => readonly SamplerId[],
  ): AsyncGenerator<void, readonly SampledToken[], void> {
    const [run, scratch] = [this.#run, this.#scratch];
    const plan = planBlend(layout, this.#chosen, { tileRows: this.#tileTokens() });
    let sampled: readonly SampledToken[] = [];
    for (const [i, { past, rows, keys }] of plan.tiles.entries()) {
      if (i > 0) yield;
      const isLast = i === plan.tiles.length - 1;
      const at = keys.length - rows.length - past.length;
      await this.#timed('recomputeMs', { op: 'gather', from: run.id, to: scratch.id, rows: past, at });
      const result = await this.#timed<'prefillScattered'>('recomputeMs', {
        op: 'prefillScattered',
        run: scratch.id,
        tokens: rows.map((position) => this.#prompt[position]!),
        positions: rows,
        keys,
        samplers: isLast ? createSamplers() : [],
      });
      sampled = result.sampled;
      const start = keys.length - rows.length;
      await this.#timed('recomputeMs', { op: 'scatter', from: scratch.id, to: run.id, start, rows });
    }
    this.#cache.blended(run, this.#prompt.length);
    return sampled;
  }

  #parts() {
    return { cache: this.#cache, engine: this.#engine };
  }

  async #timed<O extends Op>(
    part: keyof BlendTimings,
    request: Extract<EngineRequest, { op: O }>,
  ): Promise<EngineResults[O]> {
    const { result, ms } = await this.#engine.call<O>(request);
    this.#timings[part] += ms;
    return result;
  }
}
