/** The CPU as a device: runs in host memory, and the graphs over them as they lie. */
import assert from 'node:assert/strict';
import type { ReusedSpan } from '#blend';
import type { KvLayout } from '#storage';
import type { Manifest } from '../model/manifest.js';
import { BatchDecoder } from './batch-decoder.js';
import { BlendRunner } from './blend-runner.js';
import type { ChunkRows, DecodeInput, Device, PlacedTokens } from './device.js';
import { DeviceRun } from './device-run.js';
import { GraphRunner } from './graph-runner.js';
import type { Provider } from './open-graph.js';
import type { RunId } from './protocol.js';

export interface CpuDeviceOptions {
  /** An imported model. */
  readonly directory: string;
  readonly manifest: Manifest;
  readonly layout: KvLayout;
  readonly threads: number;
  /** What runs the graphs. */
  readonly provider: Provider;
}

export class CpuDevice implements Device {
  readonly bus = undefined;
  readonly #layout: KvLayout;
  readonly #runner: GraphRunner;
  readonly #blendRunner: BlendRunner;
  readonly #decoder: BatchDecoder;
  readonly #runs = new Map<RunId, DeviceRun>();

  private constructor(
    layout: KvLayout,
    parts: {
      readonly runner: GraphRunner;
      readonly blendRunner: BlendRunner;
      readonly decoder: BatchDecoder;
    },
  ) {
    this.#layout = layout;
    this.#runner = parts.runner;
    this.#blendRunner = parts.blendRunner;
    this.#decoder = parts.decoder;
  }

  /** Loads the graphs. */
  static async create(options: CpuDeviceOptions): Promise<CpuDevice> {
    const runner = await GraphRunner.create(options);
    const blendRunner = new BlendRunner(options);
    const decoder = await BatchDecoder.create({ ...options, runner });
    return new CpuDevice(options.layout, { runner, blendRunner, decoder });
  }

  createRun(run: RunId, capacityTokens: number, base?: { readonly run: RunId; readonly rows: number }): void {
    const bytes = (capacityTokens - (base?.rows ?? 0)) * this.#layout.tokenBytes;
    const rows = base && { run: this.#run(base.run), rows: base.rows };
    this.#runs.set(run, new DeviceRun(this.#layout, capacityTokens, new ArrayBuffer(bytes), rows));
  }

  rebaseRun(run: RunId, base: RunId): void {
    this.#run(run).rebase(this.#run(base));
  }

  freeRun(run: RunId): void {
    this.#runs.delete(run);
  }

  async copyRun(from: RunId, to: RunId, tokens: number): Promise<void> {
    this.#run(to).copyFrom(this.#run(from), tokens);
  }

  async load(run: RunId, chunks: readonly ChunkRows[]): Promise<void> {
    const to = this.#run(run);
    for (const { bytes, start, rows } of chunks) to.load(bytes, start, rows);
  }

  async seal(run: RunId, chunks: readonly ChunkRows[]): Promise<void> {
    const from = this.#run(run);
    for (const { bytes, start, rows } of chunks) from.seal(bytes, start, rows);
  }

  async gather(from: RunId, to: RunId, rows: Int32Array, at: number): Promise<void> {
    this.#run(to).gather(this.#run(from), rows, at);
  }

  async scatter(from: RunId, to: RunId, start: number, rows: Int32Array): Promise<void> {
    this.#run(to).scatter(this.#run(from), start, rows);
  }

  prefill(run: RunId, start: number, tokens: Int32Array): Promise<Float32Array> {
    return this.#runner.prefill(this.#run(run), start, tokens);
  }

  prefillScattered(run: RunId, rows: PlacedTokens & { readonly keys: Int32Array }): Promise<Float32Array> {
    return this.#runner.prefillScattered(this.#run(run), rows);
  }

  decode(rows: readonly DecodeInput[], sharedRows: number): Promise<Float32Array[]> {
    return this.#decoder.decode(
      rows.map((row) => ({ ...row, run: this.#run(row.run) })),
      sharedRows,
    );
  }

  rotate(run: RunId, spans: readonly Omit<ReusedSpan, 'segmentStart'>[]): Promise<void> {
    return this.#blendRunner.rotate(this.#run(run), spans);
  }

  score(run: RunId, start: number, question: PlacedTokens): Promise<Float32Array> {
    return this.#blendRunner.score(this.#run(run), start, question);
  }

  probe(run: RunId, start: number, tokens: Int32Array) {
    return this.#blendRunner.probe(this.#run(run), start, tokens);
  }

  #run(id: RunId): DeviceRun {
    const run = this.#runs.get(id);
    assert(run !== undefined, `unknown run ${id}`);
    return run;
  }
}
