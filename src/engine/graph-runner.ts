/**
 * Runs the two graphs of a model over device runs. Lives in the engine's worker: `session.run` blocks its thread.
 *
 * Bit-exactness: every row of a prefill tile with an even number of rows is the same however the prompt is cut, so an
 * odd tile gets a padding row whose results are dropped. Rows made by `decode` differ from those in the last bits
 * and are never shared: the cache has them computed again by `prefill` first.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type InferenceSession, Tensor } from 'onnxruntime-node';
import { positionMask } from '#blend';
import type { KvLayout } from '#storage';
import { NAMES } from '../model/graphs/trunk.js';
import { type Manifest, MODEL_FILES } from '../model/manifest.js';
import type { DeviceRun } from './device-run.js';
import { consecutive, evenRows, type Feeds, pastFeeds, tokenFeeds } from './feeds.js';
import { openGraph, type Provider } from './open-graph.js';
import { RotationTable } from './rotation-table.js';

export class GraphRunner {
  readonly #prefill: InferenceSession;
  readonly #decode: InferenceSession;
  readonly #layout: KvLayout;
  readonly #rotation: RotationTable;

  private constructor(
    sessions: { readonly prefill: InferenceSession; readonly decode: InferenceSession },
    manifest: Manifest,
    layout: KvLayout,
  ) {
    this.#prefill = sessions.prefill;
    this.#decode = sessions.decode;
    this.#layout = layout;
    this.#rotation = new RotationTable(manifest.spec.rope, manifest.spec.headDim);
  }

  /** Loads the graphs in `directory`. */
  static async create(options: {
    readonly directory: string;
    readonly manifest: Manifest;
    readonly layout: KvLayout;
    readonly threads: number;
    /** What runs the graphs; default `cpu`. */
    readonly provider?: Provider;
  }): Promise<GraphRunner> {
    const { directory, manifest, layout, threads, provider = 'cpu' } = options;
    // Threads that spin after a tile would take the cores from the decode step that follows.
    const prefill = await openGraph(join(directory, MODEL_FILES.prefill), {
      threads,
      spins: false,
      provider,
    });
    const decode = await openGraph(join(directory, MODEL_FILES.decode), { threads, spins: true, provider });
    return new GraphRunner({ prefill, decode }, manifest, layout);
  }

  /**
   * Computes rows `[start, start + tokens.length)` of a run whose rows `[0, start)` are there.
   *
   * @param logitRows how many, the last ones, have their logits computed
   * @returns logits of these rows, `[logitRows, vocab]`.
   */
  prefill(run: DeviceRun, start: number, tokens: Int32Array, logitRows = 1): Promise<Float32Array> {
    const rows = evenRows(tokens, consecutive(start, tokens.length));
    return this.#tile(run, { start, kept: tokens.length, logitRows, ...rows });
  }

  /**
   * Computes rows of any positions behind the past of a run, and appends them there (blend/plan.ts). A row attends
   * by position.
   *
   * @param rows.positions `[tokens]`, ascending
   * @param rows.keys `[past + tokens]` positions of the run's rows and, after them, of the new ones
   * @returns logits of the last row, `[vocab]`.
   */
  prefillScattered(
    run: DeviceRun,
    rows: { readonly tokens: Int32Array; readonly positions: Int32Array; readonly keys: Int32Array },
  ): Promise<Float32Array> {
    const kept = rows.tokens.length;
    const start = rows.keys.length - kept;
    const { tokens, positions } = evenRows(rows.tokens, rows.positions);
    const keys = Int32Array.from([...rows.keys, ...positions.subarray(kept)]);
    const mask = positionMask(positions, keys);
    return this.#tile(run, { start, kept, logitRows: 1, tokens, positions, mask });
  }

  /** Computes row `position` of a run whose earlier rows (at least one) are there; returns its logits, `[vocab]`. */
  async decode(run: DeviceRun, position: number, token: number): Promise<Float32Array> {
    assert(position > 0, 'a sequence begins with a prefill');
    const feeds = this.#feeds(run, position, Int32Array.of(token), Int32Array.of(position));
    return this.#finish(await this.#decode.run(feeds), run, position, 1);
  }

  /** Rows behind `[0, start)`, of which the first `kept` are appended. */
  async #tile(
    run: DeviceRun,
    tile: {
      readonly start: number;
      readonly kept: number;
      readonly logitRows: number;
      readonly tokens: Int32Array;
      readonly positions: Int32Array;
      readonly mask?: Float32Array;
    },
  ): Promise<Float32Array> {
    const { start, kept, logitRows, tokens, positions, mask } = tile;
    assert(logitRows > 0 && logitRows <= kept, 'a tile is not empty');
    const total = start + tokens.length;
    const wanted = BigInt64Array.from(consecutive(kept - logitRows, logitRows), BigInt);
    const feeds: Feeds = {
      ...this.#feeds(run, start, tokens, positions),
      [NAMES.logitRows]: new Tensor('int64', wanted, [logitRows]),
      [NAMES.lastPosition]: new Tensor('int32', Int32Array.of(total - 1), [1]),
      [NAMES.totalTokens]: new Tensor('int32', Int32Array.of(total), [1]),
      [NAMES.isScattered]: new Tensor('bool', [mask !== undefined], []),
      [NAMES.mask]:
        mask === undefined
          ? new Tensor('float32', new Float32Array(1), [1, 1, 1, 1])
          : new Tensor('float32', mask, [1, 1, tokens.length, total]),
    };
    return this.#finish(await this.#prefill.run(feeds), run, start, kept);
  }

  #feeds(run: DeviceRun, start: number, tokens: Int32Array, positions: Int32Array): Feeds {
    const { layers } = this.#layout;
    return {
      ...tokenFeeds(tokens, positions, this.#rotation),
      ...pastFeeds(run, this.#layout, { rows: start, layers }),
    };
  }

  #finish(
    outputs: InferenceSession.OnnxValueMapType,
    run: DeviceRun,
    start: number,
    rows: number,
  ): Float32Array {
    const fresh = outputs[NAMES.fresh]!.data;
    const logits = outputs[NAMES.logits]!.data;
    assert(
      ArrayBuffer.isView(fresh) && logits instanceof Float32Array,
      'the outputs have the types of the graph',
    );
    run.append(new Uint8Array(fresh.buffer, fresh.byteOffset, fresh.byteLength), start, rows);
    return logits;
  }
}
