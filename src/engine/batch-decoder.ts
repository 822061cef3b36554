/**
 * One decode step of several sequences in one run of the batched graph, over their device runs as they lie. Lives in
 * the engine's worker.
 *
 * A row's attention is what the decode graph computes, in another order, and products take another kernel for one row
 * than for several: with float32 weights logits are equal to 1e-4, with int8 activations as near as those of prefill.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type InferenceSession, Tensor } from 'onnxruntime-node';
import type { KvLayout } from '#storage';
import { BATCH_NAMES, BATCH_SLOTS, SHARED_PARTS } from '../model/graphs/decode-batch.js';
import { NAMES } from '../model/graphs/trunk.js';
import { type Manifest, MODEL_FILES } from '../model/manifest.js';
import { DeviceRun } from './device-run.js';
import { type Feeds, partTensors, rowsTensor, tokenFeeds } from './feeds.js';
import type { GraphRunner } from './graph-runner.js';
import { openGraph, type Provider } from './open-graph.js';
import { RotationTable } from './rotation-table.js';

/** The next token of a sequence: row `position` of a run whose earlier rows (at least one) are there. */
export interface DecodeRow {
  readonly run: DeviceRun;
  readonly position: number;
  readonly token: number;
}

export class BatchDecoder {
  readonly #session: InferenceSession;
  readonly #runner: GraphRunner;
  readonly #layout: KvLayout;
  readonly #rotation: RotationTable;
  /** What is fed where nothing is read. */
  readonly #unread: DeviceRun;

  private constructor(
    graphs: { readonly session: InferenceSession; readonly runner: GraphRunner },
    manifest: Manifest,
    layout: KvLayout,
  ) {
    this.#session = graphs.session;
    this.#runner = graphs.runner;
    this.#layout = layout;
    this.#rotation = new RotationTable(manifest.spec.rope, manifest.spec.headDim);
    this.#unread = new DeviceRun(layout, SHARED_PARTS, new ArrayBuffer(SHARED_PARTS * layout.tokenBytes));
  }

  /** Loads the graph in `directory`. `runner` decodes a sequence that is alone. */
  static async create(options: {
    readonly directory: string;
    readonly manifest: Manifest;
    readonly layout: KvLayout;
    readonly threads: number;
    /** What runs the graphs; default `cpu`. */
    readonly provider?: Provider;
    readonly runner: GraphRunner;
  }): Promise<BatchDecoder> {
    const { directory, manifest, layout, threads, runner, provider = 'cpu' } = options;
    const session = await openGraph(join(directory, MODEL_FILES.decodeBatch), {
      threads,
      spins: true,
      provider,
    });
    return new BatchDecoder({ session, runner }, manifest, layout);
  }

  /**
   * Computes a row each of at most `BATCH_SLOTS` different runs.
   *
   * @param sharedRows the first rows that all runs have in common: fewer than any row's position, a multiple of
   * `SHARED_PARTS`, and in one piece in one of the runs, of which they are read
   * @returns logits of each row, `[vocab]`.
   */
  async decode(rows: readonly DecodeRow[], sharedRows = 0): Promise<Float32Array[]> {
    assert(rows.length <= BATCH_SLOTS, 'a batch has no more rows than the graph');
    assert(new Set(rows.map(({ run }) => run)).size === rows.length, 'each row has a run of its own');
    assert(sharedRows % SHARED_PARTS === 0 && rows.every(({ position }) => position > sharedRows));
    const [first] = rows;
    assert(first !== undefined, 'a batch is not empty');
    if (rows.length === 1) return [await this.#runner.decode(first.run, first.position, first.token)];
    const outputs = await this.#session.run(this.#feeds(rows, sharedRows));
    const fresh = outputs[NAMES.fresh]!.data;
    const logits = outputs[NAMES.logits]!.data;
    assert(
      ArrayBuffer.isView(fresh) && logits instanceof Float32Array,
      'the outputs have the types of the graph',
    );
    const bytes = new Uint8Array(fresh.buffer, fresh.byteOffset, fresh.byteLength);
    const vocab = logits.length / rows.length;
    return rows.map(({ run, position }, row) => {
      run.append(bytes, position, 1, row);
      return logits.subarray(row * vocab, (row + 1) * vocab);
    });
  }

  #feeds(rows: readonly DecodeRow[], sharedRows: number): Feeds {
    const tokens = Int32Array.from(rows, ({ token }) => token);
    const positions = Int32Array.from(rows, ({ position }) => position);
    const isShared = sharedRows > 0;
    const slotRows = BigInt64Array.from({ length: BATCH_SLOTS }, (_, slot) => BigInt(slot % rows.length));
    const feeds: Feeds = {
      ...tokenFeeds(tokens, positions, this.#rotation),
      [BATCH_NAMES.isShared]: new Tensor('bool', [isShared], []),
      [BATCH_NAMES.slotRows]: new Tensor('int64', slotRows, [BATCH_SLOTS]),
    };
    const { kvHeads, headDim, sections } = this.#layout;
    const whole = rows.find(({ run: { baseRows } }) => baseRows === 0 || baseRows >= sharedRows);
    assert(!isShared || whole !== undefined, 'common rows are in one piece in one of the runs');
    const [source, sourceRows] =
      isShared && whole !== undefined ? [whole.run, sharedRows] : [this.#unread, SHARED_PARTS];
    const dims = [sourceRows / SHARED_PARTS, SHARED_PARTS * kvHeads, headDim];
    for (let section = 0; section < sections; section++) {
      const [of, layer] = [section % 2 === 0 ? 'k' : 'v', section >> 1] as const;
      const common = rowsTensor(source, this.#layout, { section, start: 0, end: sourceRows });
      feeds[BATCH_NAMES.shared(of, layer)] = common.reshape(dims);
      for (let slot = 0; slot < BATCH_SLOTS; slot++) {
        const row = rows[slot];
        const [run, start, end] =
          row === undefined ? [this.#unread, 0, 0] : [row.run, sharedRows, row.position];
        const parts = partTensors(run, this.#layout, { section, start, end });
        feeds[BATCH_NAMES.base(of, layer, slot)] = parts.base;
        feeds[BATCH_NAMES.past(of, layer, slot)] = parts.past;
      }
    }
    return feeds;
  }
}
