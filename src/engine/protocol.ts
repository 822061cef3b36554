/**
 * Messages between the engine's proxy (main thread) and its worker.
 *
 * Every request has a number and gets exactly one reply, in order. Messages carry run and slot numbers, tokens and
 * row ranges, never KV bytes. A *run* is the device memory of one sequence: K and V rows `[0, capacity)` of all
 * layers, of which the first may be those of another run, its *base*. A *sampler* is the drawing state of one choice.
 */
import type { ReusedSpan } from '#blend';
import type { KvLayout, Slab } from '#storage';
import type { SamplingParams } from '../serving/completion.js';
import type { Deviations } from './deviations.js';
import type { BusBytes } from './device.js';
import type { SampledToken } from './sampler.js';

export type RunId = number;
export type SamplerId = number;

/** What computes. */
export type DeviceOptions =
  | { readonly kind: 'cpu' }
  /** Graphs on the GPU, K and V in host memory: the binding can't keep tensors of this provider. */
  | { readonly kind: 'cuda' }
  /** `kvBytes`: memory of the GPU for K and V, of the type that the layout says. */
  | { readonly kind: 'webgpu'; readonly kvBytes: number };

/** What the worker is started with. */
export interface WorkerOptions {
  /** An imported model. */
  readonly directory: string;
  readonly threads: number;
  readonly layout: KvLayout;
  readonly device: DeviceOptions;
  /** The host tier's slots; absent without a host tier. */
  readonly slab?: Slab;
}

/** Rows `[0, rows)` of a chunk in a host slot, and where they belong in a run. */
export interface SlotRows {
  readonly slot: number;
  /** First row of the chunk in the run. */
  readonly start: number;
  readonly rows: number;
}

/** Row `position` of a run, to be computed, and what draws the next token from its logits. */
export interface DecodeRow {
  readonly run: RunId;
  readonly position: number;
  readonly token: number;
  readonly sampler: SamplerId;
}

export type EngineRequest =
  /** A run whose first rows may be those of another one, which has them all itself; the capacity is of all rows. */
  | {
      readonly op: 'createRun';
      readonly run: RunId;
      readonly capacityTokens: number;
      readonly base?: { readonly run: RunId; readonly rows: number };
    }
  /** A run's first rows are now those of `base`, which equal them. */
  | { readonly op: 'rebaseRun'; readonly run: RunId; readonly base: RunId }
  /** Copies rows of another run up to `tokens`: those that are not the base's. */
  | { readonly op: 'copyRun'; readonly from: RunId; readonly to: RunId; readonly tokens: number }
  | { readonly op: 'freeRun'; readonly run: RunId }
  | {
      readonly op: 'createSampler';
      readonly sampler: SamplerId;
      readonly params: SamplingParams;
      readonly vocab: number;
      /** What it has drawn already, in another worker. */
      readonly drawn?: Int32Array;
    }
  | { readonly op: 'freeSampler'; readonly sampler: SamplerId }
  /** Host slots → run rows. Stops at the first slot whose bytes do not match its checksum. */
  | {
      readonly op: 'load';
      readonly run: RunId;
      readonly chunks: readonly (SlotRows & { readonly checksum: bigint })[];
    }
  /** Run rows → host slots. */
  | { readonly op: 'seal'; readonly run: RunId; readonly chunks: readonly SlotRows[] }
  /** Computes the rows `[start, start + tokens.length)`, and draws one token from the last row's logits a sampler. */
  | {
      readonly op: 'prefill';
      readonly run: RunId;
      readonly start: number;
      readonly tokens: Int32Array;
      readonly samplers: readonly SamplerId[];
    }
  /** Copies rows `rows` of another run, in this order, to the rows `[at, at + rows.length)`. */
  | {
      readonly op: 'gather';
      readonly from: RunId;
      readonly to: RunId;
      readonly rows: Int32Array;
      readonly at: number;
    }
  /** Copies the rows of another run from `start` on to the rows `rows`, in this order. */
  | {
      readonly op: 'scatter';
      readonly from: RunId;
      readonly to: RunId;
      readonly start: number;
      readonly rows: Int32Array;
    }
  /** Moves the keys of reused spans from the positions they were stored for to those of their rows. */
  | {
      readonly op: 'rotate';
      readonly run: RunId;
      readonly spans: readonly Omit<ReusedSpan, 'segmentStart'>[];
    }
  /**
   * Computes rows at any positions behind the `keys.length - tokens.length` rows of a run that was gathered, appends
   * them, and draws one token from the last row's logits a sampler. `keys`: positions of all these rows.
   */
  | {
      readonly op: 'prefillScattered';
      readonly run: RunId;
      readonly tokens: Int32Array;
      readonly positions: Int32Array;
      readonly keys: Int32Array;
      readonly samplers: readonly SamplerId[];
    }
  /** Measures what attention tokens at `positions` give to the rows `[0, start)`, all of which they see. */
  | {
      readonly op: 'score';
      readonly run: RunId;
      readonly start: number;
      readonly tokens: Int32Array;
      readonly positions: Int32Array;
    }
  /** Measures how far rows `[start, start + tokens.length)` of the second layer are from fresh ones. */
  | { readonly op: 'probe'; readonly run: RunId; readonly start: number; readonly tokens: Int32Array }
  /**
   * One step of several sequences, each in a run of its own, at most `BATCH_SLOTS`. Rows `[0, sharedRows)` of all runs
   * are equal, and read once.
   */
  | { readonly op: 'decode'; readonly rows: readonly DecodeRow[]; readonly sharedRows: number };

/** What each request is answered with. */
export interface EngineResults {
  createRun: undefined;
  rebaseRun: undefined;
  copyRun: undefined;
  freeRun: undefined;
  createSampler: undefined;
  freeSampler: undefined;
  /** Chunks loaded; fewer than asked when the next one was corrupt. */
  load: { readonly loaded: number };
  seal: { readonly checksums: readonly bigint[] };
  prefill: { readonly sampled: readonly SampledToken[] };
  gather: undefined;
  scatter: undefined;
  rotate: undefined;
  prefillScattered: { readonly sampled: readonly SampledToken[] };
  /** `[start]`, summed over rows, heads and layers. */
  score: { readonly attention: Float32Array };
  probe: Deviations;
  /** In the order of the rows; `error` where a row's logits can't be drawn from, which is no other row's fault. */
  decode: { readonly sampled: readonly (SampledToken | { readonly error: string })[] };
}

export type Op = EngineRequest['op'];

export type ToWorker = { readonly id: number; readonly request: EngineRequest };

export type FromWorker =
  | { readonly type: 'ready' }
  /** The graphs or weights can't be loaded, or the device is lost: the worker ends. */
  | { readonly type: 'failed'; readonly message: string }
  /** `ms`: time the worker spent on the request. */
  | {
      readonly type: 'done';
      readonly id: number;
      readonly result: unknown;
      readonly ms: number;
      /** Since the worker began. */
      readonly bus?: BusBytes;
    }
  /** The request failed; the worker lives on. */
  | { readonly type: 'error'; readonly id: number; readonly message: string };
