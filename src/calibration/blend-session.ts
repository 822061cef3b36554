/**
 * A model on which prompts are blended step by step, without the engine's worker: what calibration and the benchmark
 * measure, and what the engine's tests hold against full prefill. Runs are as long as their prompt, and some rows for
 * an answer.
 */
import assert from 'node:assert/strict';
import {
  type CachedSegment,
  layoutSegments,
  type Measurement,
  planBlend,
  reusedTokens,
  type SegmentLayout,
  type Selector,
} from '#blend';
import { type KvLayout, kvLayout } from '#storage';
import { BlendRunner } from '../engine/blend-runner.js';
import { DeviceRun } from '../engine/device-run.js';
import { consecutive } from '../engine/feeds.js';
import { GraphRunner } from '../engine/graph-runner.js';
import { type Manifest, readManifest } from '../model/manifest.js';

/** A segment, and the run it was prefilled in alone. */
export interface StoredSegment extends CachedSegment {
  readonly run: DeviceRun;
}

/** What segments are prefilled behind. */
export interface PrefilledContext {
  readonly tokens: Int32Array;
  readonly run: DeviceRun;
}

export interface Prompt {
  readonly tokens: Int32Array;
  readonly segments: readonly StoredSegment[];
  /** Rows known exactly, of `run`; the default is none. */
  readonly prefix?: { readonly tokens: number; readonly run: DeviceRun };
}

export interface BlendSessionOptions {
  readonly directory: string;
  readonly threads: number;
  /** Most rows computed at once. */
  readonly tileRows?: number;
}

export class BlendSession {
  readonly runner: GraphRunner;
  readonly blender: BlendRunner;
  readonly layout: KvLayout;
  readonly manifest: Manifest;
  readonly #tileRows: number;

  private constructor(
    parts: { runner: GraphRunner; blender: BlendRunner; layout: KvLayout; manifest: Manifest },
    tileRows: number,
  ) {
    this.runner = parts.runner;
    this.blender = parts.blender;
    this.layout = parts.layout;
    this.manifest = parts.manifest;
    this.#tileRows = tileRows;
  }

  static async open({ directory, threads, tileRows = 512 }: BlendSessionOptions): Promise<BlendSession> {
    const manifest = await readManifest(directory);
    const { layers, kvHeads, headDim } = manifest.spec;
    const layout = kvLayout({ layers, kvHeads, headDim, chunkTokens: 64, dtype: manifest.kvType });
    const options = { directory, manifest, layout, threads };
    const runner = await GraphRunner.create(options);
    return new BlendSession({ runner, blender: new BlendRunner(options), layout, manifest }, tileRows);
  }

  createRun(tokens: number): DeviceRun {
    return new DeviceRun(this.layout, tokens, new ArrayBuffer(tokens * this.layout.tokenBytes));
  }

  /** Prefills `tokens` from row `start` on. @returns Logits of the last row. */
  async prefill(run: DeviceRun, tokens: Int32Array, start = 0): Promise<Float32Array> {
    let logits: Float32Array = new Float32Array();
    for (let from = start; from < tokens.length; from += this.#tileRows) {
      logits = await this.runner.prefill(run, from, tokens.subarray(from, from + this.#tileRows));
    }
    return logits;
  }

  /** @param tokens none, for what is prefilled alone */
  async prefillContext(tokens: Int32Array): Promise<PrefilledContext> {
    const run = this.createRun(tokens.length);
    await this.prefill(run, tokens);
    return { tokens, run };
  }

  /** Prefills each of `owns` behind a context. @returns Their own rows, a run each. */
  async prefillBehind(context: PrefilledContext, owns: readonly Int32Array[]): Promise<DeviceRun[]> {
    const { length } = context.tokens;
    const runs: DeviceRun[] = [];
    for (const own of owns) {
      const whole = this.createRun(length + own.length);
      whole.copyFrom(context.run, length);
      await this.prefill(whole, Int32Array.from([...context.tokens, ...own]), length);
      const run = this.createRun(own.length);
      run.gather(whole, consecutive(length, own.length));
      runs.push(run);
    }
    return runs;
  }

  layoutOf({ tokens, segments, prefix }: Prompt): SegmentLayout {
    return layoutSegments({ promptTokens: tokens.length, prefixTokens: prefix?.tokens ?? 0, segments });
  }

  /** Copies prefix and segments to their places in `run`; keys are still those of the stored positions. */
  place(run: DeviceRun, { segments, prefix }: Prompt, layout: SegmentLayout): void {
    if (prefix !== undefined) run.copyFrom(prefix.run, prefix.tokens);
    const [first] = segments;
    if (first !== undefined && layout.prefixTokens > (prefix?.tokens ?? 0)) {
      run.copyFrom(first.run, layout.prefixTokens);
    }
    for (const { start, end, segmentStart } of layout.reused) {
      const segment = segments.find((stored) => stored.start === segmentStart)!;
      run.scatter(segment.run, start - segmentStart, consecutive(start, end - start));
    }
  }

  /** Runs a selector on the rows of a run whose keys are moved already. @returns Positions, ascending. */
  async select(
    run: DeviceRun,
    { tokens }: Prompt,
    layout: SegmentLayout,
    choice: { readonly selector: Selector; readonly ratio: number },
  ): Promise<Int32Array> {
    const selection = choice.selector(reusedTokens(layout), choice.ratio);
    let step = selection.next();
    while (step.done !== true) step = selection.next(await this.#measure(step.value, run, tokens, layout));
    return step.value;
  }

  /** Computes chosen and new tokens, and puts their rows in place. @returns Logits of the last row. */
  async recompute(
    run: DeviceRun,
    { tokens }: Prompt,
    layout: SegmentLayout,
    chosen: Int32Array,
  ): Promise<Float32Array> {
    const plan = planBlend(layout, chosen, { tileRows: this.#tileRows });
    const gathered = this.createRun(tokens.length);
    let logits: Float32Array = new Float32Array();
    for (const { past, rows, keys } of plan.tiles) {
      const start = keys.length - rows.length;
      gathered.gather(run, past, start - past.length);
      const rowTokens = rows.map((position) => tokens[position]!);
      logits = await this.runner.prefillScattered(gathered, { tokens: rowTokens, positions: rows, keys });
      run.scatter(gathered, start, rows);
    }
    return logits;
  }

  async #measure(
    measurement: Measurement,
    run: DeviceRun,
    tokens: Int32Array,
    layout: SegmentLayout,
  ): Promise<Float32Array> {
    const byPosition =
      measurement.kind === 'attention'
        ? await this.#attention(run, tokens, layout)
        : await this.#deviations(run, tokens, layout, measurement);
    return Float32Array.from(measurement.positions, (position) => byPosition[position]!);
  }

  /** Mass that the last new span gives to each token before it, by position. */
  async #attention(run: DeviceRun, tokens: Int32Array, layout: SegmentLayout): Promise<Float32Array> {
    const question = layout.newSpans.at(-1)!;
    const known = Int32Array.from([
      ...consecutive(0, layout.prefixTokens),
      ...reusedTokens(layout).positions,
    ]);
    const isWhole = known.length === question.start;
    const rows = isWhole ? run : this.createRun(known.length);
    if (!isWhole) rows.gather(run, known);
    const mass = await this.blender.score(rows, known.length, {
      tokens: tokens.subarray(question.start, question.end),
      positions: consecutive(question.start, question.end - question.start),
    });
    const byPosition = new Float32Array(tokens.length);
    for (const [i, position] of known.entries()) byPosition[position] = mass[i]!;
    return byPosition;
  }

  async #deviations(
    run: DeviceRun,
    tokens: Int32Array,
    layout: SegmentLayout,
    { of, relative, layer, positions }: Extract<Measurement, { kind: 'deviation' }>,
  ): Promise<Float32Array> {
    const byPosition = new Float32Array(tokens.length);
    if (layer > 1) {
      const section = 2 * layer + (of === 'K' ? 0 : 1);
      const fresh = this.createRun(tokens.length);
      fresh.copyFrom(run, tokens.length);
      await this.recompute(fresh, { tokens, segments: [] }, layout, positions);
      for (const position of positions) {
        byPosition[position] = distance(
          this.#row(fresh, section, position),
          this.#row(run, section, position),
          relative,
        );
      }
      return byPosition;
    }
    const end = layout.reused.at(-1)!.end;
    for (let start = layout.prefixTokens; start < end; start += this.#tileRows) {
      const tile = tokens.subarray(start, Math.min(end, start + this.#tileRows));
      const { k, v, freshK, freshV } = await this.blender.probe(run, start, tile);
      const [deviation, norm] = of === 'K' ? [k, freshK] : [v, freshV];
      byPosition.set(relative ? deviation.map((value, i) => value / norm[i]!) : deviation, start);
    }
    return byPosition;
  }

  #row(run: DeviceRun, section: number, position: number): Float32Array {
    assert.equal(this.layout.dtype, 'float32', 'deeper layers are compared in float32 only');
    return new Float32Array(run.rows(section, position, position + 1).slice().buffer);
  }
}

/** L2 norm of the difference, or its share of the norm of the fresh row. */
function distance(fresh: Float32Array, cached: Float32Array, isRelative: boolean): number {
  const difference = Math.hypot(...fresh.map((value, i) => value - cached[i]!));
  return isRelative ? difference / Math.hypot(...fresh) : difference;
}
