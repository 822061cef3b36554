/**
 * What the graphs of a model share: embedding, norms, products with the weights, the gated feed-forward layer, rotation, head.
 *
 * The residual stream is `[R, hidden]` float32. Products with block weights run with int8 activations
 * (`accuracy_level` 4): four times as fast as float32 activations on AVX2, at KL 3e-3 to the float32 weights.
 */
import { ELEMENT, type GraphBuilder } from '../onnx/graph.js';
import type { ModelSpec } from '../spec.js';
import { blockSumsId, type StoredMatrix, type StoredWeights } from './weights.js';

/** Beside every graph of a model. */
export const WEIGHTS_FILE = 'weights.bin';

const INT8_ACTIVATIONS = 4;

/** Names of the graphs' inputs and outputs; the engine feeds and reads them. */
export const NAMES = {
  /** int64 `[R]`. */
  tokens: 'tokens',
  /** Rotation of each row, float32 `[R, headDim / 2]`. */
  cos: 'cos',
  sin: 'sin',
  /** 0 … R−1, int64 `[1, R]`: which row of `cos` and `sin` a token uses. */
  rotationRows: 'rotation_rows',
  /**
   * Prefill only. Whether the rows are scattered, bool scalar; then, added to the scores, float32 `[1, 1, R, P + R]`,
   * else not read.
   */
  isScattered: 'is_scattered',
  mask: 'mask',
  /** Prefill only. The rows whose logits are wanted, int64 `[N]`. */
  logitRows: 'logit_rows',
  /** Total length − 1 and total length, int32 `[1]`. */
  lastPosition: 'last_position',
  totalTokens: 'total_tokens',
  /** float32, a row for each one wanted: `[N, vocab]`. */
  logits: 'logits',
  /**
   * What the rows stand behind, of the model's KV type: `[B, kvHeads, headDim]`, and behind these `[P, …]`. Two parts,
   * since a run may have its first rows in another one; either may be empty.
   */
  base: (of: 'k' | 'v', layer: number): string => `base_${of}_${layer}`,
  past: (of: 'k' | 'v', layer: number): string => `past_${of}_${layer}`,
  /** The new rows of all layers, K and V of a layer after each other: `[2 * layers * R, kvHeads, headDim]`. */
  fresh: 'fresh',
} as const;

export interface TrunkOptions {
  readonly spec: ModelSpec;
  readonly weights: StoredWeights;
  /** What K and V are kept as. Rounding to float16 costs KL 7e-7 and halves the bytes in every tier. */
  readonly kvType: 'float16' | 'float32';
  /** Whether all operators must be there on a GPU. */
  readonly isForGpu?: boolean;
}

/** Declares the rotation of each of `rows` rows. */
export function rotationInputs(g: GraphBuilder, { headDim }: ModelSpec, rows: number | string): void {
  g.input(NAMES.cos, 'float32', [rows, headDim / 2]);
  g.input(NAMES.sin, 'float32', [rows, headDim / 2]);
  g.input(NAMES.rotationRows, 'int64', [1, rows]);
}

/** Queries `[1, R, heads × headDim]`; keys and values `[R, kvHeads, headDim]` of the KV type. */
export interface LayerRows {
  readonly q: string;
  readonly k: string;
  readonly v: string;
}

/** Turns the rows of a layer into what they attended to, `[R, heads × headDim]`. */
type Attend = (rows: LayerRows, layer: number) => string;

export class Trunk {
  readonly g: GraphBuilder;
  readonly spec: ModelSpec;
  readonly kvType: TrunkOptions['kvType'];
  readonly #weights: StoredWeights;
  readonly #isForGpu: boolean;
  /** `[R, kvHeads, headDim]` each, in the order of the output `fresh`. */
  readonly #fresh: string[] = [];

  constructor(g: GraphBuilder, options: TrunkOptions) {
    this.g = g;
    this.spec = options.spec;
    this.kvType = options.kvType;
    this.#weights = options.weights;
    this.#isForGpu = options.isForGpu ?? false;
  }

  /** Declares the inputs for `rows` tokens, and the past of the first `layers` layers. */
  inputs(rows: number | string, layers = this.spec.layers): void {
    this.g.input(NAMES.tokens, 'int64', [rows]);
    rotationInputs(this.g, this.spec, rows);
    for (let layer = 0; layer < layers; layer++) {
      for (const of of ['k', 'v'] as const) {
        for (const [name, length] of [
          [NAMES.base, 'B'],
          [NAMES.past, 'P'],
        ] as const) {
          this.g.input(name(of, layer), this.kvType, [length, this.spec.kvHeads, this.spec.headDim]);
        }
      }
    }
  }

  /** Both parts of the past and, where there are any, rows behind it: `[B + P + rows, kvHeads, headDim]`. */
  withPast(of: 'k' | 'v', layer: number, ...rows: readonly string[]): string {
    return this.g.op('Concat', [NAMES.base(of, layer), NAMES.past(of, layer), ...rows], { axis: 0 });
  }

  weight(name: string): string {
    const tensor = this.#weights.file.tensors.get(name);
    if (tensor === undefined) throw new Error(`no weight ${name}`);
    return this.g.weight(name, tensor, WEIGHTS_FILE);
  }

  /** `[R, hidden]` of the token ids. */
  embed(): string {
    const table = this.#weights.embedding;
    if (table.kind === 'dense') return this.g.op('Gather', [this.weight('embedding.w'), NAMES.tokens]);
    return this.g.msOp(
      'GatherBlockQuantized',
      [this.weight('embedding.q'), NAMES.tokens, this.weight('embedding.s')],
      { bits: table.bits, block_size: table.blockSize, gather_axis: 0, quantize_axis: 1 },
    );
  }

  /** RMS norm over the last dimension. */
  norm(x: string, weightName: string): string {
    const attributes = { axis: -1, epsilon: { f: this.spec.normEpsilon } };
    return this.g.op('SimplifiedLayerNormalization', [x, this.weight(weightName)], attributes);
  }

  /** Adds `y` to the stream `h`: the new stream and its norm, in one node. */
  addAndNorm(h: string, y: string, weightName: string): { readonly h: string; readonly x: string } {
    const [x, , , sum] = this.g.ops(
      'com.microsoft',
      'SkipSimplifiedLayerNormalization',
      [h, y, this.weight(weightName)],
      [true, false, false, true],
      { epsilon: { f: this.spec.normEpsilon } },
    );
    return { h: sum!, x: x! };
  }

  /** `x · Wᵀ` of a product of the weights file: `[R, rows]`. */
  product(x: string, name: string): string {
    const parts = this.#weights.products.get(name);
    if (parts === undefined) throw new Error(`no product ${name}`);
    const outputs = parts.map((part) => this.#multiply(x, part));
    return outputs.length === 1 ? outputs[0]! : this.g.op('Concat', outputs, { axis: -1 });
  }

  #multiply(x: string, matrix: StoredMatrix): string {
    if (matrix.kind === 'dense') return this.g.op('MatMul', [x, this.weight(`${matrix.id}.w`)]);
    const { id, rows, cols, bits, blockSize } = matrix;
    const codes = this.g.msOp('MatMulNBits', [x, this.weight(`${id}.q`), this.weight(`${id}.s`)], {
      K: cols,
      N: rows,
      bits,
      block_size: blockSize,
      accuracy_level: INT8_ACTIVATIONS,
    });
    if (!matrix.hasOffsets) return codes;
    // Σ offset[b] · Σ_{c in b} x[c]: what the codes' common offset adds, block by block.
    const sums = this.g.op('MatMul', [x, this.weight(blockSumsId(cols, blockSize))]);
    return this.g.op('Gemm', [sums, this.weight(`${id}.o`), codes]);
  }

  /**
   * Query, key and value rows of a layer from its normed input: queries and keys rotated. Keys and values are part of
   * the output `fresh`.
   */
  queryKeyValue(x: string, layer: number): LayerRows {
    const { g, spec } = this;
    const qWidth = spec.heads * spec.headDim;
    const kvWidth = spec.kvHeads * spec.headDim;
    let qkv = this.product(x, `blk.${layer}.qkv`);
    if (spec.qkvBias) qkv = g.op('Add', [qkv, this.weight(`blk.${layer}.attn_qkv.bias`)]);
    const rotated = spec.qkNorm ? this.#normedRotation(qkv, layer) : this.#jointRotation(qkv);
    const [q, k] = g.ops('', 'Split', [rotated.qk, g.int64(qWidth, kvWidth)], [true, true], { axis: -1 });
    return { q: q!, k: this.#keep(k!), v: this.#keep(rotated.v) };
  }

  /** Queries and keys side by side are just more heads: one rotation for both. */
  #jointRotation(qkv: string): { readonly qk: string; readonly v: string } {
    const { g, spec } = this;
    const qkWidth = (spec.heads + spec.kvHeads) * spec.headDim;
    const widths = g.int64(qkWidth, spec.kvHeads * spec.headDim);
    const [qk, v] = g.ops('', 'Split', [qkv, widths], [true, true], { axis: -1 });
    return { qk: this.#rotate(qk!), v: v! };
  }

  /** Qwen3 norms each query and key head before the rotation. */
  #normedRotation(qkv: string, layer: number): { readonly qk: string; readonly v: string } {
    const { g, spec } = this;
    const kvWidth = spec.kvHeads * spec.headDim;
    const widths = g.int64(spec.heads * spec.headDim, kvWidth, kvWidth);
    const [q, k, v] = g.ops('', 'Split', [qkv, widths], [true, true, true], { axis: -1 });
    const normed = (part: string, heads: number, name: string) => {
      const split = g.op('Reshape', [part, g.int64(-1, heads, spec.headDim)]);
      const norm = this.norm(split, `blk.${layer}.${name}.weight`);
      return g.op('Reshape', [norm, g.int64(-1, heads * spec.headDim)]);
    };
    const parts = [normed(q!, spec.heads, 'attn_q_norm'), normed(k!, spec.kvHeads, 'attn_k_norm')];
    return { qk: this.#rotate(g.op('Concat', parts, { axis: -1 })), v: v! };
  }

  #rotate(qk: string): string {
    const batched = this.g.op('Unsqueeze', [qk, this.g.int64(0)]);
    return this.g.msOp('RotaryEmbedding', [batched, NAMES.rotationRows, NAMES.cos, NAMES.sin], {
      interleaved: this.spec.rope.interleaved ? 1 : 0,
      num_heads: this.spec.heads + this.spec.kvHeads,
    });
  }

  /** Rows as they are kept. */
  #keep(rows: string): string {
    const split = this.g.op('Reshape', [rows, this.g.int64(-1, this.spec.kvHeads, this.spec.headDim)]);
    const kept = this.kvType === 'float32' ? split : this.g.op('Cast', [split], { to: ELEMENT.float16 });
    this.#fresh.push(kept);
    return kept;
  }

  /** Rows of the KV type as float32, by a node of `g`: the trunk's graph or a branch of it. */
  toFloat32(rows: string, g = this.g): string {
    return this.kvType === 'float32' ? rows : g.op('Cast', [rows], { to: ELEMENT.float32 });
  }

  /** SwiGLU: `down(silu(gate(x)) · up(x))`. */
  feedForward(x: string, layer: number): string {
    const { g, spec } = this;
    const gateUp = this.product(x, `blk.${layer}.gateUp`);
    const widths = g.int64(spec.intermediate, spec.intermediate);
    const [gate, up] = g.ops('', 'Split', [gateUp, widths], [true, true], { axis: -1 });
    const active = g.msOp('QuickGelu', [gate!], { alpha: { f: 1 } });
    return this.product(g.op('Mul', [active, up!]), `blk.${layer}.down`);
  }

  /**
   * All layers and the head. `wantedRows` picks the rows of the stream whose logits are wanted.
   */
  build(attend: Attend, wantedRows: (h: string) => string): void {
    this.head(wantedRows(this.layers(attend)));
    this.g.op('Concat', this.#fresh, { axis: 0 }, NAMES.fresh);
    this.g.output(NAMES.fresh, this.kvType, ['2LR', this.spec.kvHeads, this.spec.headDim]);
  }

  /** Embedding and the first `count` layers: the stream behind them. What no output needs is not computed. */
  layers(attend: Attend, count = this.spec.layers): string {
    let h = this.embed();
    let x = this.norm(h, 'blk.0.attn_norm.weight');
    for (let layer = 0; layer < count; layer++) {
      const attended = attend(this.queryKeyValue(x, layer), layer);
      const output = this.product(attended, `blk.${layer}.attnOutput`);
      const middle = this.addAndNorm(h, output, `blk.${layer}.ffn_norm.weight`);
      const fed = this.feedForward(middle.x, layer);
      if (layer < count - 1) {
        ({ h, x } = this.addAndNorm(middle.h, fed, `blk.${layer + 1}.attn_norm.weight`));
      } else h = this.g.op('Add', [middle.h, fed]);
    }
    return h;
  }

  /** Logits of rows of the stream, an output of the graph. */
  head(h: string): void {
    const x = this.norm(h, 'output_norm.weight');
    this.g.output(NAMES.logits, 'float32', ['N', this.spec.vocab]);
    if (this.#weights.products.has('head')) {
      this.g.op('Identity', [this.product(x, 'head')], {}, NAMES.logits);
    } else {
      const factors = [x, this.weight('embedding.w')];
      // The operator that is quicker on the CPU is not there on a GPU.
      const logits = this.#isForGpu
        ? this.g.op('Gemm', factors, { transB: 1 })
        : this.g.msOp('FusedMatMul', factors, { transB: 1 });
      this.g.op('Identity', [logits], {}, NAMES.logits);
    }
  }
}
