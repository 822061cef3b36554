/**
 * What computes and holds K and V of runs: the CPU, or a GPU. The engine's worker has one, and calls one method after
 * another. A *run* is the device memory of one sequence (protocol.ts).
 *
 * A method that fails with a `DeviceLost` leaves a device whose memory can't be trusted: the worker ends with it.
 */
import type { ReusedSpan } from '#blend';
import type { Deviations } from './deviations.js';
import type { RunId } from './protocol.js';

/** Rows `[0, rows)` of a chunk, and the first row of the run where they belong. */
export interface ChunkRows {
  /** A host slot. */
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly rows: number;
}

export interface DecodeInput {
  readonly run: RunId;
  readonly position: number;
  readonly token: number;
}

/** Tokens at positions, ascending. */
export interface PlacedTokens {
  readonly tokens: Int32Array;
  readonly positions: Int32Array;
}

/** The methods are the requests of protocol.ts, with logits in place of samplers: `[vocab]` of the last row. */
export interface Device {
  createRun(run: RunId, capacityTokens: number, base?: { readonly run: RunId; readonly rows: number }): void;
  rebaseRun(run: RunId, base: RunId): void;
  freeRun(run: RunId): void;
  copyRun(from: RunId, to: RunId, tokens: number): Promise<void>;
  load(run: RunId, chunks: readonly ChunkRows[]): Promise<void>;
  seal(run: RunId, chunks: readonly ChunkRows[]): Promise<void>;
  gather(from: RunId, to: RunId, rows: Int32Array, at: number): Promise<void>;
  scatter(from: RunId, to: RunId, start: number, rows: Int32Array): Promise<void>;
  prefill(run: RunId, start: number, tokens: Int32Array): Promise<Float32Array>;
  prefillScattered(run: RunId, rows: PlacedTokens & { readonly keys: Int32Array }): Promise<Float32Array>;
  /** @returns logits of each row, `[vocab]` */
  decode(rows: readonly DecodeInput[], sharedRows: number): Promise<Float32Array[]>;
  rotate(run: RunId, spans: readonly Omit<ReusedSpan, 'segmentStart'>[]): Promise<void>;
  score(run: RunId, start: number, question: PlacedTokens): Promise<Float32Array>;
  probe(run: RunId, start: number, tokens: Int32Array): Promise<Deviations>;
  /** What went over the bus since it was made; undefined where there is none. */
  readonly bus: BusBytes | undefined;
}

/** Bytes between host and device. Shapes, which the provider reads on the host, are not among them. */
export interface BusBytes {
  /** Tokens, positions and row numbers, and the tables that stay on the device. */
  readonly controlUp: number;
  /** K and V rows. */
  readonly kvUp: number;
  readonly kvDown: number;
  readonly logitsDown: number;
  /** What selectors of blending are told. */
  readonly measuresDown: number;
}

/** How the parts of the traffic are called outside. */
export const BUS_KINDS = [
  { direction: 'to_device', kind: 'control', of: 'controlUp' },
  { direction: 'to_device', kind: 'kv', of: 'kvUp' },
  { direction: 'from_device', kind: 'kv', of: 'kvDown' },
  { direction: 'from_device', kind: 'logits', of: 'logitsDown' },
  { direction: 'from_device', kind: 'measures', of: 'measuresDown' },
] as const satisfies readonly { direction: string; kind: string; of: keyof BusBytes }[];

/** The device failed, and what it holds is gone or can't be trusted. */
export class DeviceLost extends Error {}
