/**
 * A GPU as a device, by ONNX Runtime's WebGPU provider. All K and V lie in one arena in its memory, which is as large
 * as the byte budget from the beginning; runs are lists of its rows. Everything that makes, moves or reads rows is a
 * graph that runs there and writes into the arena in place; only tokens and row numbers go up, and logits come down.
 *
 * A row that prefill makes is the same whatever tile it is in: tiles are filled up to a multiple of `TILE_STEP` rows,
 * and what fills them is written to scratch rows that nobody reads. Lives in the engine's worker.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { Tensor } from 'onnxruntime-node';
import type { ReusedSpan } from '#blend';
import type { KvLayout } from '#storage';
import { ATTENTION_NAMES } from '../../model/graphs/arena/attention.js';
import {
  type ArenaShape,
  copyGraph,
  EMPTY_NAMES,
  emptyGraph,
  fetchGraph,
  MOVE_NAMES,
  placeGraph,
  turnGraph,
} from '../../model/graphs/arena/moves.js';
import { ARENA_NAMES } from '../../model/graphs/arena/names.js';
import { ARENA_PROBE_NAMES } from '../../model/graphs/arena/probe.js';
import { SCORED_ROWS } from '../../model/graphs/arena/score.js';
import { STEP_NAMES } from '../../model/graphs/arena/step.js';
import { PROBE_NAMES } from '../../model/graphs/probe.js';
import { SCORE_NAMES } from '../../model/graphs/score.js';
import { NAMES } from '../../model/graphs/trunk.js';
import { gpuFile, type Manifest } from '../../model/manifest.js';
import type { Deviations } from '../deviations.js';
import type { BusBytes, ChunkRows, DecodeInput, Device, PlacedTokens } from '../device.js';
import { consecutive, type Feeds, rotationFeeds } from '../feeds.js';
import type { RunId } from '../protocol.js';
import { RotationTable } from '../rotation-table.js';
import { ArenaRows, ArenaRun, PAGE_ROWS } from './arena-rows.js';
import { DeviceTables, KEYS_STEP } from './device-tables.js';
import { BusMeter, bytesOf, GpuGraph } from './gpu-graph.js';

/** Tiles have a multiple of so many rows. */
const TILE_STEP = 64;

/** Rows that one graph run copies or turns. */
const MOVED_ROWS = 256;

/** Chunks that cross the bus together. */
const BUS_CHUNKS = 4;

/** Position of what stands behind the last key. */
const NOWHERE = 2 ** 31 - 1;

interface Graphs {
  readonly step: GpuGraph;
  readonly copy: GpuGraph;
  readonly place: GpuGraph;
  readonly fetch: GpuGraph;
  readonly turn: GpuGraph;
}

export interface WebGpuDeviceOptions {
  /** An imported model. */
  readonly directory: string;
  readonly manifest: Manifest;
  readonly layout: KvLayout;
  /** Memory for K and V. */
  readonly kvBytes: number;
}

export class WebGpuDevice implements Device {
  readonly #options: WebGpuDeviceOptions;
  readonly #meter: BusMeter;
  readonly #graphs: Graphs;
  readonly #tables: DeviceTables;
  readonly #turns: RotationTable;
  readonly #arena: readonly Tensor[];
  readonly #rows: ArenaRows;
  readonly #runs = new Map<RunId, ArenaRun>();
  /** Loaded when first used: the one that scores has all layers' weights once more. */
  readonly #measuring = new Map<'score' | 'probe', Promise<GpuGraph>>();

  private constructor(
    options: WebGpuDeviceOptions,
    parts: {
      readonly meter: BusMeter;
      readonly graphs: Graphs;
      readonly tables: DeviceTables;
      readonly arena: readonly Tensor[];
      readonly rows: ArenaRows;
    },
  ) {
    this.#options = options;
    this.#meter = parts.meter;
    this.#graphs = parts.graphs;
    this.#tables = parts.tables;
    this.#arena = parts.arena;
    this.#rows = parts.rows;
    const { rope, headDim } = options.manifest.spec;
    this.#turns = new RotationTable(rope, headDim);
  }

  /** Loads the graphs and takes the memory. */
  static async create(options: WebGpuDeviceOptions): Promise<WebGpuDevice> {
    const { directory, manifest, layout, kvBytes } = options;
    const shape: ArenaShape = { spec: manifest.spec, type: layout.dtype };
    const meter = new BusMeter();
    const graphs = {
      step: await GpuGraph.open(join(directory, gpuFile('step', layout.dtype)), meter),
      copy: await GpuGraph.open(copyGraph(shape), meter),
      place: await GpuGraph.open(placeGraph(shape), meter),
      fetch: await GpuGraph.open(fetchGraph(shape), meter),
      turn: await GpuGraph.open(turnGraph(shape), meter),
    };
    const rows = new ArenaRows(Math.floor(kvBytes / (layout.tokenBytes * PAGE_ROWS)));
    const empty = await GpuGraph.open(emptyGraph(shape), meter, true);
    const width = layout.kvHeads * layout.headDim;
    const sections = await empty.run(
      {
        [EMPTY_NAMES.zero]: elements(layout.dtype, new Uint8Array(layout.dtype === 'float16' ? 2 : 4), [1]),
        [EMPTY_NAMES.shape]: int64([rows.rows, width], [2]),
      },
      {},
    );
    const arena = consecutive(0, layout.sections);
    return new WebGpuDevice(options, {
      meter,
      graphs,
      rows,
      tables: await DeviceTables.create(manifest.spec.rope, manifest.spec.headDim, meter),
      arena: Array.from(arena, (section) => sections[ARENA_NAMES.section(section)]!),
    });
  }

  get bus(): BusBytes {
    return this.#meter.reading();
  }

  createRun(run: RunId, capacityTokens: number, base?: { readonly run: RunId; readonly rows: number }): void {
    const under = base && { run: this.#run(base.run), rows: base.rows };
    this.#runs.set(run, new ArenaRun(this.#rows, capacityTokens, under));
  }

  rebaseRun(run: RunId, base: RunId): void {
    this.#run(run).rebase(this.#run(base));
  }

  freeRun(run: RunId): void {
    this.#rows.giveBack(this.#run(run).pages);
    this.#runs.delete(run);
  }

  copyRun(from: RunId, to: RunId, tokens: number): Promise<void> {
    const target = this.#run(to);
    const start = Math.min(target.baseRows, tokens);
    return this.#copy(this.#run(from).range(start, tokens), target.own(start, tokens));
  }

  gather(from: RunId, to: RunId, rows: Int32Array, at: number): Promise<void> {
    const source = this.#run(from);
    return this.#copy(
      rows.map((row) => source.at(row)),
      this.#run(to).own(at, at + rows.length),
    );
  }

  scatter(from: RunId, to: RunId, start: number, rows: Int32Array): Promise<void> {
    const target = this.#run(to);
    return this.#copy(
      this.#run(from).range(start, start + rows.length),
      rows.map((row) => target.own(row, row + 1)[0]!),
    );
  }

  async load(run: RunId, chunks: readonly ChunkRows[]): Promise<void> {
    const target = this.#run(run);
    for (const batch of alike(chunks)) {
      const [{ rows } = { rows: 0 }] = batch;
      const { dtype, sections, rowBytes, chunkTokens, kvHeads, headDim } = this.#options.layout;
      const bytes = new Uint8Array(batch.length * sections * rows * rowBytes);
      for (const [i, chunk] of batch.entries()) {
        for (let section = 0; section < sections; section++) {
          const from = section * chunkTokens * rowBytes;
          const part = chunk.bytes.subarray(from, from + rows * rowBytes);
          bytes.set(part, (i * sections + section) * rows * rowBytes);
        }
      }
      const dims = [batch.length, sections, rows, kvHeads * headDim];
      const to = batch.flatMap(({ start }) => [...target.own(start, start + rows)]);
      await this.#graphs.place.run(
        {
          ...this.#sections(),
          [MOVE_NAMES.chunks]: elements(dtype, bytes, dims),
          [MOVE_NAMES.to]: column(to),
        },
        this.#written(),
      );
    }
  }

  async seal(run: RunId, chunks: readonly ChunkRows[]): Promise<void> {
    const source = this.#run(run);
    const { sections, rowBytes, chunkTokens, kvHeads, headDim } = this.#options.layout;
    for (const batch of alike(chunks)) {
      const [{ rows } = { rows: 0 }] = batch;
      const from = batch.flatMap(({ start }) => [...source.range(start, start + rows)]);
      const { [MOVE_NAMES.chunks]: fetched } = await this.#graphs.fetch.run(
        {
          ...this.#sections(),
          [MOVE_NAMES.from]: int64(from, [from.length]),
          [MOVE_NAMES.chunkShape]: int64([batch.length, 1, rows, kvHeads * headDim], [4]),
        },
        {},
        { [MOVE_NAMES.chunks]: 'kvDown' },
      );
      const bytes = bytesOf(fetched!);
      for (const [i, chunk] of batch.entries()) {
        for (let section = 0; section < sections; section++) {
          const at = (i * sections + section) * rows * rowBytes;
          chunk.bytes.set(bytes.subarray(at, at + rows * rowBytes), section * chunkTokens * rowBytes);
        }
      }
    }
  }

  async prefill(run: RunId, start: number, tokens: Int32Array): Promise<Float32Array> {
    const positions = consecutive(start, tokens.length);
    const count = keysFor(start + tokens.length);
    const keyPositions = await this.#tables.numbers(count);
    return this.#tile(this.#run(run), { start, tokens, positions, keyPositions });
  }

  async prefillScattered(
    run: RunId,
    rows: PlacedTokens & { readonly keys: Int32Array },
  ): Promise<Float32Array> {
    const { tokens, positions, keys } = rows;
    const listed = new Int32Array(keysFor(keys.length)).fill(NOWHERE);
    listed.set(keys);
    const keyPositions = new Tensor('int32', listed, [1, listed.length]);
    return this.#tile(this.#run(run), {
      start: keys.length - tokens.length,
      tokens,
      positions,
      keyPositions,
    });
  }

  async decode(rows: readonly DecodeInput[]): Promise<Float32Array[]> {
    const runs = rows.map(({ run }) => this.#run(run));
    const positions = Int32Array.from(rows, ({ position }) => position);
    const last = Math.max(...positions);
    const count = keysFor(last + 1);
    const logits = await this.#step({
      runs,
      count,
      tokens: Int32Array.from(rows, ({ token }) => token),
      positions,
      writeRows: rows.map(({ position }, i) => runs[i]!.own(position, position + 1)[0]!),
      lastKeys: positions,
      keyPositions: await this.#tables.numbers(count),
      wanted: consecutive(0, rows.length),
    });
    const vocab = logits.length / rows.length;
    return rows.map((_, i) => logits.subarray(i * vocab, (i + 1) * vocab));
  }

  async rotate(run: RunId, spans: readonly Omit<ReusedSpan, 'segmentStart'>[]): Promise<void> {
    const target = this.#run(run);
    const half = this.#options.layout.headDim / 2;
    for (const span of spans) {
      const shift = this.#turns.by(span.start - span.storedStart);
      for (let start = span.start; start < span.end; start += MOVED_ROWS) {
        const rows = target.own(start, Math.min(span.end, start + MOVED_ROWS));
        const cos = new Float32Array(rows.length * half);
        const sin = new Float32Array(cos.length);
        for (let at = 0; at < cos.length; at += half) {
          cos.set(shift.cos, at);
          sin.set(shift.sin, at);
        }
        await this.#graphs.turn.run(
          {
            ...this.#sections(2),
            ...rotationFeeds({ cos, sin }, rows.length),
            [MOVE_NAMES.from]: int64(rows, [rows.length]),
            [MOVE_NAMES.to]: column(rows),
          },
          this.#written(2),
        );
      }
    }
  }

  async score(run: RunId, start: number, question: PlacedTokens): Promise<Float32Array> {
    const { tokens, positions } = question;
    assert(start > 0 && tokens.length > 0, 'there is a question, and something before it');
    const keys = start + tokens.length;
    const keyPositions = new Int32Array(keys);
    keyPositions.set(positions, start);
    const graph = await this.#measure('score');
    const { [SCORE_NAMES.mass]: mass } = await graph.run(
      {
        ...this.#sections(),
        ...(await this.#tokenFeeds(tokens, positions)),
        ...this.#shapes(1, tokens.length, keys),
        [ATTENTION_NAMES.rowPositions]: new Tensor('int32', positions, [1, 1, tokens.length, 1]),
        [ATTENTION_NAMES.keyPositions]: new Tensor('int32', keyPositions, [1, keys]),
        [SCORED_ROWS]: int64(this.#run(run).range(0, start), [start]),
      },
      {},
      { [SCORE_NAMES.mass]: 'measuresDown' },
    );
    return floatsOf(mass!).subarray(0, start);
  }

  async probe(run: RunId, start: number, tokens: Int32Array): Promise<Deviations> {
    const target = this.#run(run);
    const count = tokens.length;
    const keys = start + count;
    const positions = consecutive(start, count);
    const rows = target.own(start, keys);
    const graph = await this.#measure('probe');
    const sections = [0, 1, 2, 3].map(
      (section) => [ARENA_NAMES.section(section), this.#arena[section]!] as const,
    );
    const written = [0, 1].map((section) => [ARENA_NAMES.written(section), this.#arena[section]!] as const);
    const { [PROBE_NAMES.deviations]: measured } = await graph.run(
      {
        ...Object.fromEntries(sections),
        ...(await this.#tokenFeeds(tokens, positions)),
        ...this.#shapes(1, count, keys),
        [ATTENTION_NAMES.rowPositions]: new Tensor('int32', positions, [1, 1, count, 1]),
        [ATTENTION_NAMES.keyPositions]: new Tensor('int32', consecutive(0, keys), [1, keys]),
        [STEP_NAMES.writeRows]: column(rows),
        [ARENA_PROBE_NAMES.keyRows]: int64(target.range(0, keys), [keys]),
        [ARENA_PROBE_NAMES.cachedRows]: int64(rows, [count]),
      },
      Object.fromEntries(written),
      { [PROBE_NAMES.deviations]: 'measuresDown' },
    );
    const values = floatsOf(measured!);
    const [k, v, freshK, freshV] = [0, 1, 2, 3].map((i) => values.subarray(i * count, (i + 1) * count));
    return { k: k!, v: v!, freshK: freshK!, freshV: freshV! };
  }

  /** One sequence's rows behind `[0, start)`; logits of the last one. */
  async #tile(
    run: ArenaRun,
    tile: PlacedTokens & { readonly start: number; readonly keyPositions: Tensor },
  ): Promise<Float32Array> {
    const { start, keyPositions } = tile;
    const kept = tile.tokens.length;
    assert(kept > 0, 'a tile is not empty');
    const rows = Math.ceil(kept / TILE_STEP) * TILE_STEP;
    const tokens = new Int32Array(rows);
    tokens.set(tile.tokens);
    const positions = new Int32Array(rows).fill(tile.positions.at(-1)!);
    positions.set(tile.positions);
    const scratch = Array.from({ length: rows - kept }, (_, i) => this.#rows.scratch(i));
    return this.#step({
      runs: [run],
      count: keyPositions.dims.at(-1)!,
      tokens,
      positions,
      writeRows: [...run.own(start, start + kept), ...scratch],
      lastKeys: Int32Array.of(start + kept - 1),
      keyPositions,
      wanted: Int32Array.of(kept - 1),
    });
  }

  async #step(step: {
    readonly runs: readonly ArenaRun[];
    /** Of keys that are listed. */
    readonly count: number;
    readonly tokens: Int32Array;
    readonly positions: Int32Array;
    readonly writeRows: readonly number[];
    readonly lastKeys: Int32Array;
    readonly keyPositions: Tensor;
    /** Rows whose logits are wanted. */
    readonly wanted: Int32Array;
  }): Promise<Float32Array> {
    const { runs, count, tokens, positions } = step;
    const rows = tokens.length / runs.length;
    const { [NAMES.logits]: logits } = await this.#graphs.step.run(
      {
        ...this.#sections(),
        ...(await this.#tokenFeeds(tokens, positions)),
        ...this.#shapes(runs.length, rows, count),
        [ATTENTION_NAMES.rowPositions]: new Tensor('int32', positions, [runs.length, 1, rows, 1]),
        [ATTENTION_NAMES.keyPositions]: step.keyPositions,
        [NAMES.logitRows]: int64(step.wanted, [step.wanted.length]),
        [STEP_NAMES.writeRows]: column(step.writeRows),
        [STEP_NAMES.keyRows]: await this.#tables.keyRows(runs, count),
        [STEP_NAMES.keyNumbers]: await this.#tables.numbers(count),
        [STEP_NAMES.lastKey]: new Tensor('int32', step.lastKeys, [runs.length, 1]),
      },
      this.#written(),
      { [NAMES.logits]: 'logitsDown' },
    );
    return floatsOf(logits!);
  }

  async #copy(from: Int32Array, to: Int32Array): Promise<void> {
    for (let start = 0; start < from.length; start += MOVED_ROWS) {
      const rows = from.subarray(start, start + MOVED_ROWS);
      await this.#graphs.copy.run(
        {
          ...this.#sections(),
          [MOVE_NAMES.from]: int64(rows, [rows.length]),
          [MOVE_NAMES.to]: column(to.subarray(start, start + MOVED_ROWS)),
        },
        this.#written(),
      );
    }
  }

  async #tokenFeeds(tokens: Int32Array, positions: Int32Array): Promise<Feeds> {
    const { cos, sin } = await this.#tables.rotations(Math.max(...positions) + 1);
    return {
      [NAMES.tokens]: int64(tokens, [tokens.length]),
      [NAMES.cos]: cos,
      [NAMES.sin]: sin,
      [NAMES.rotationRows]: int64(positions, [1, positions.length]),
    };
  }

  /** Of B sequences with S new rows and C keys each. */
  #shapes(b: number, s: number, c: number): Feeds {
    const { heads, kvHeads, headDim } = this.#options.manifest.spec;
    const group = heads / kvHeads;
    return {
      [ATTENTION_NAMES.split]: int64([b, s, kvHeads, group, headDim], [5]),
      [ATTENTION_NAMES.grouped]: int64([b, kvHeads, group * s, headDim], [4]),
      [ATTENTION_NAMES.ungrouped]: int64([b, kvHeads, group, s, headDim], [5]),
      [ATTENTION_NAMES.keySplit]: int64([b, c, kvHeads, headDim], [4]),
      [ATTENTION_NAMES.byHead]: int64([b, heads, s, c], [4]),
      [ATTENTION_NAMES.byGroup]: int64([b, kvHeads, group * s, c], [4]),
    };
  }

  /** Every `step`-th section, as an input. */
  #sections(step = 1): Feeds {
    return this.#bound(ARENA_NAMES.section, step);
  }

  /** The same memory, as an output. */
  #written(step = 1): Feeds {
    return this.#bound(ARENA_NAMES.written, step);
  }

  #bound(name: (section: number) => string, step: number): Feeds {
    const feeds: Feeds = {};
    for (let section = 0; section < this.#arena.length; section += step) {
      feeds[name(section)] = this.#arena[section]!;
    }
    return feeds;
  }

  #measure(name: 'score' | 'probe'): Promise<GpuGraph> {
    const { directory, layout } = this.#options;
    const opened =
      this.#measuring.get(name) ?? GpuGraph.open(join(directory, gpuFile(name, layout.dtype)), this.#meter);
    this.#measuring.set(name, opened);
    return opened;
  }

  #run(id: RunId): ArenaRun {
    const run = this.#runs.get(id);
    assert(run !== undefined, `unknown run ${id}`);
    return run;
  }
}

/** Chunks of as many rows in the same batch, in order. */
function* alike(chunks: readonly ChunkRows[]): Generator<readonly ChunkRows[]> {
  for (let at = 0; at < chunks.length; ) {
    const others = chunks.slice(at, at + BUS_CHUNKS);
    const end = others.findIndex(({ rows }) => rows !== chunks[at]!.rows);
    const batch = end < 0 ? others : others.slice(0, end);
    yield batch;
    at += batch.length;
  }
}

function keysFor(rows: number): number {
  return Math.ceil(rows / KEYS_STEP) * KEYS_STEP;
}

function int64(values: Iterable<number>, dims: readonly number[]): Tensor {
  return new Tensor('int64', BigInt64Array.from(Array.from(values, BigInt)), dims);
}

/** Row numbers that are written, `[rows, 1]`. */
function column(rows: Iterable<number>): Tensor {
  const values = Array.from(rows);
  return int64(values, [values.length, 1]);
}

function elements(
  dtype: KvLayout['dtype'],
  { buffer, byteOffset, byteLength }: Uint8Array,
  dims: readonly number[],
) {
  return dtype === 'float16'
    ? new Tensor('float16', new Uint16Array(buffer, byteOffset, byteLength / 2), dims)
    : new Tensor('float32', new Float32Array(buffer, byteOffset, byteLength / 4), dims);
}

function floatsOf({ data }: Tensor): Float32Array {
  assert(data instanceof Float32Array, 'the outputs have the types of the graph');
  return data;
}
