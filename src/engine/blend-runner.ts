/**
 * What a blend needs of the engine beside computing rows: it moves reused keys to their positions, and measures which
 * tokens to compute again. Lives in the engine's worker.
 *
 * Each graph is loaded when it is first used: the one that scores has all layers' weights, packed once more.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type InferenceSession, Tensor } from 'onnxruntime-node';
import { positionMask, type ReusedSpan } from '#blend';
import type { KvLayout } from '#storage';
import { PROBE_NAMES } from '../model/graphs/probe.js';
import { ROTATE_NAMES } from '../model/graphs/rotate.js';
import { SCORE_NAMES } from '../model/graphs/score.js';
import { NAMES } from '../model/graphs/trunk.js';
import { type Manifest, MODEL_FILES } from '../model/manifest.js';
import type { Deviations } from './deviations.js';
import type { DeviceRun } from './device-run.js';
import { consecutive, evenRows, pastFeeds, rotationFeeds, rowsTensor, tokenFeeds } from './feeds.js';
import { openGraph, type Provider } from './open-graph.js';
import { RotationTable } from './rotation-table.js';

type GraphName = 'score' | 'probe' | 'rotate';

export class BlendRunner {
  readonly #directory: string;
  readonly #threads: number;
  readonly #provider: Provider;
  readonly #layout: KvLayout;
  readonly #rotation: RotationTable;
  readonly #sessions = new Map<GraphName, Promise<InferenceSession>>();

  constructor(options: {
    readonly directory: string;
    readonly manifest: Manifest;
    readonly layout: KvLayout;
    readonly threads: number;
    /** What runs the graphs; default `cpu`. */
    readonly provider?: Provider;
  }) {
    this.#directory = options.directory;
    this.#threads = options.threads;
    this.#provider = options.provider ?? 'cpu';
    this.#layout = options.layout;
    this.#rotation = new RotationTable(options.manifest.spec.rope, options.manifest.spec.headDim);
  }

  /**
   * Moves the keys of reused spans, which lie in their rows as they were stored, to the rows' positions. Rows between
   * the spans stay as they are, bit for bit.
   */
  async rotate(run: DeviceRun, spans: readonly Omit<ReusedSpan, 'segmentStart'>[]): Promise<void> {
    if (spans.length === 0) return;
    const start = spans[0]!.start;
    const end = spans.at(-1)!.end;
    const half = this.#layout.headDim / 2;
    const cos = new Float32Array((end - start) * half).fill(1);
    const sin = new Float32Array(cos.length);
    for (const span of spans) {
      const row = this.#rotation.by(span.start - span.storedStart);
      for (let at = (span.start - start) * half; at < (span.end - start) * half; at += half) {
        cos.set(row.cos, at);
        sin.set(row.sin, at);
      }
    }
    const rotation = rotationFeeds({ cos, sin }, end - start);
    const session = await this.#session('rotate');
    for (let section = 0; section < this.#layout.sections; section += 2) {
      const { [ROTATE_NAMES.moved]: moved } = await session.run({
        ...rotation,
        [ROTATE_NAMES.keys]: rowsTensor(run, this.#layout, { section, start, end }),
      });
      run.rows(section, start, end).set(bytesOf(moved));
    }
  }

  /**
   * The attention that the rows of a question give to the rows `[0, start)` of a run: softmax mass, summed over rows,
   * heads and layers.
   *
   * @param question positions `[tokens]`, ascending, behind those of the run's rows
   * @returns `[start]`
   */
  async score(
    run: DeviceRun,
    start: number,
    question: { readonly tokens: Int32Array; readonly positions: Int32Array },
  ): Promise<Float32Array> {
    const { tokens, positions } = question;
    assert(start > 0 && tokens.length > 0, 'there is a question, and something before it');
    const keys = Int32Array.from([...new Int32Array(start), ...positions]);
    const session = await this.#session('score');
    const { [SCORE_NAMES.mass]: mass } = await session.run({
      ...tokenFeeds(tokens, positions, this.#rotation),
      ...pastFeeds(run, this.#layout, { rows: start, layers: this.#layout.layers }),
      [SCORE_NAMES.mask]: new Tensor('float32', positionMask(positions, keys), [tokens.length, keys.length]),
    });
    return floatsOf(mass).subarray(0, start);
  }

  /**
   * Compares the rows `[start, start + tokens.length)` of a run with fresh ones, in the second layer. The first
   * layer's rows `[0, start)` are read, those of the tile are written: they are the same up to rounding wherever
   * they come from, since they depend on token and position alone.
   */
  async probe(run: DeviceRun, start: number, tokens: Int32Array): Promise<Deviations> {
    const kept = tokens.length;
    const rows = evenRows(tokens, consecutive(start, kept));
    const made = rows.tokens.length;
    assert(start + made <= run.capacityTokens, 'the run has room for the padding row');
    const cached = (section: number) => rowsTensor(run, this.#layout, { section, start, end: start + made });
    const session = await this.#session('probe');
    const { [PROBE_NAMES.deviations]: measured, [PROBE_NAMES.firstLayer]: first } = await session.run({
      ...tokenFeeds(rows.tokens, rows.positions, this.#rotation),
      ...pastFeeds(run, this.#layout, { rows: start, layers: 1 }),
      [PROBE_NAMES.cached('k')]: cached(2),
      [PROBE_NAMES.cached('v')]: cached(3),
      [NAMES.lastPosition]: new Tensor('int32', Int32Array.of(start + made - 1), [1]),
      [NAMES.totalTokens]: new Tensor('int32', Int32Array.of(start + made), [1]),
    });
    const bytes = bytesOf(first);
    for (const section of [0, 1]) {
      const at = section * made * this.#layout.rowBytes;
      run.rows(section, start, start + kept).set(bytes.subarray(at, at + kept * this.#layout.rowBytes));
    }
    const [k, v, freshK, freshV] = [0, 1, 2, 3].map((i) =>
      floatsOf(measured).subarray(i * made, i * made + kept),
    );
    return { k: k!, v: v!, freshK: freshK!, freshV: freshV! };
  }

  #session(name: GraphName): Promise<InferenceSession> {
    const opened =
      this.#sessions.get(name) ??
      openGraph(join(this.#directory, MODEL_FILES[name]), {
        threads: this.#threads,
        spins: false,
        provider: this.#provider,
      });
    this.#sessions.set(name, opened);
    return opened;
  }
}

function floatsOf(tensor: Tensor | undefined): Float32Array {
  assert(tensor?.data instanceof Float32Array, 'the outputs have the types of the graph');
  return tensor.data;
}

function bytesOf(tensor: Tensor | undefined): Uint8Array {
  const data = tensor?.data;
  assert(ArrayBuffer.isView(data), 'the outputs have the types of the graph');
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
