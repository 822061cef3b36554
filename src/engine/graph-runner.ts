/**
 * Runs the two graphs of a model over device runs. Lives in the engine's worker: `session.run` blocks its thread.
 *
 * Bit-exactness: every row of a prefill tile with an even number of rows is the same however the prompt is cut, so an
 * odd tile gets a padding row whose results are dropped. Rows made by `decode` differ from those in the last bits
 * and are never shared: the cache has them computed again by `prefill` first.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import type { KvLayout } from '#storage';
import { NAMES } from '../model/graphs/trunk.js';
import { type Manifest, MODEL_FILES } from '../model/manifest.js';
import type { DeviceRun } from './device-run.js';
import { RotationTable } from './rotation-table.js';

type Feeds = Record<string, Tensor>;

export class GraphRunner {
  readonly #prefill: InferenceSession;
  readonly #decode: InferenceSession;
  readonly #layout: KvLayout;
  readonly #rotation: RotationTable;
  readonly #pastNames: readonly string[];

  private constructor(
    sessions: { readonly prefill: InferenceSession; readonly decode: InferenceSession },
    manifest: Manifest,
    layout: KvLayout,
  ) {
    this.#prefill = sessions.prefill;
    this.#decode = sessions.decode;
    this.#layout = layout;
    this.#rotation = new RotationTable(manifest.spec.rope, manifest.spec.headDim);
    this.#pastNames = Array.from({ length: layout.sections }, (_, section) =>
      NAMES.past(section % 2 === 0 ? 'k' : 'v', section >> 1),
    );
  }

  /** Loads the graphs in `directory`. */
  static async create(options: {
    readonly directory: string;
    readonly manifest: Manifest;
    readonly layout: KvLayout;
    readonly threads: number;
  }): Promise<GraphRunner> {
    const { directory, manifest, layout, threads } = options;
    const open = (file: string, spins: boolean) =>
      InferenceSession.create(join(directory, file), {
        intraOpNumThreads: threads,
        interOpNumThreads: 1,
        executionMode: 'sequential',
        graphOptimizationLevel: 'all',
        // Threads that spin after a tile would take the cores from the decode step that follows.
        extra: { session: { intra_op: { allow_spinning: spins ? '1' : '0' } } },
      });
    const prefill = await open(MODEL_FILES.prefill, false);
    const decode = await open(MODEL_FILES.decode, true);
    return new GraphRunner({ prefill, decode }, manifest, layout);
  }

  /**
   * Computes rows `[start, start + tokens.length)` of a run whose rows `[0, start)` are there.
   *
   * @returns logits of the last row, `[vocab]`.
   */
  async prefill(run: DeviceRun, start: number, tokens: Int32Array): Promise<Float32Array> {
    const rows = tokens.length;
    assert(rows > 0, 'a tile is not empty');
    const padded = rows + (rows % 2);
    const ids = new BigInt64Array(padded);
    for (let i = 0; i < rows; i++) ids[i] = BigInt(tokens[i]!);
    const total = start + padded;
    const feeds: Feeds = {
      ...this.#feeds(run, start, ids),
      [NAMES.logitRow]: new Tensor('int64', BigInt64Array.of(BigInt(rows - 1)), [1]),
      [NAMES.lastPosition]: new Tensor('int32', Int32Array.of(total - 1), [1]),
      [NAMES.totalTokens]: new Tensor('int32', Int32Array.of(total), [1]),
    };
    return this.#finish(await this.#prefill.run(feeds), run, start, rows);
  }

  /** Computes row `position` of a run whose earlier rows (at least one) are there; returns its logits, `[vocab]`. */
  async decode(run: DeviceRun, position: number, token: number): Promise<Float32Array> {
    assert(position > 0, 'a sequence begins with a prefill');
    const feeds = this.#feeds(run, position, BigInt64Array.of(BigInt(token)));
    return this.#finish(await this.#decode.run(feeds), run, position, 1);
  }

  #feeds(run: DeviceRun, start: number, tokens: BigInt64Array): Feeds {
    const rows = tokens.length;
    const { cos, sin } = this.#rotation.rows(start, start + rows);
    const half = cos.length / rows;
    const feeds: Feeds = {
      [NAMES.tokens]: new Tensor('int64', tokens, [rows]),
      [NAMES.cos]: new Tensor('float32', cos, [rows, half]),
      [NAMES.sin]: new Tensor('float32', sin, [rows, half]),
      [NAMES.rotationRows]: new Tensor(
        'int64',
        BigInt64Array.from({ length: rows }, (_, i) => BigInt(i)),
        [1, rows],
      ),
    };
    const { kvHeads, headDim, dtype } = this.#layout;
    const dims = [start, kvHeads, headDim];
    const elements = start * kvHeads * headDim;
    for (const [section, name] of this.#pastNames.entries()) {
      const offset = run.offset(section, 0);
      feeds[name] =
        dtype === 'float16'
          ? new Tensor('float16', new Uint16Array(run.buffer, offset, elements), dims)
          : new Tensor('float32', new Float32Array(run.buffer, offset, elements), dims);
    }
    return feeds;
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
