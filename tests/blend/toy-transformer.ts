/**
 * A small random decoder in plain arithmetic, to hold blends against: grouped-query attention with RoPE, a
 * feed-forward layer, RMS norms, residuals. A row attends to what it is told to, whatever the order of the keys.
 *
 * K (rotated) and V rows are float32, as an engine's; everything else is float64.
 */
import assert from 'node:assert/strict';
import { type RopeSpec, ropeFrequencies, rotateKeys } from '#blend';
import { seededRandom } from '../../src/engine/random.js';

const [LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, VOCAB] = [3, 12, 4, 2, 6, 13] as const;
/** Numbers in one K or V row. */
export const ROW_WIDTH = KV_HEADS * HEAD_DIM;

type Vector = readonly number[];
type Matrix = readonly Vector[];

/** Rows of all layers: `[layers]` of `[tokens, ROW_WIDTH]`. */
export interface Kv {
  readonly keys: readonly Float32Array[];
  readonly values: readonly Float32Array[];
}

export const NO_KV: Kv = everyLayer(() => new Float32Array());

export interface Prefill {
  /** `[rows, VOCAB]` */
  readonly logits: Matrix;
  readonly kv: Kv;
}

export class ToyTransformer {
  readonly #interleaved: boolean;
  readonly #frequencies: Float64Array;
  readonly #embedding: Matrix;
  readonly #layers: readonly Record<'query' | 'key' | 'value' | 'out' | 'up' | 'down', Matrix>[];

  constructor(seed: number, rope: RopeSpec) {
    this.#interleaved = rope.interleaved;
    this.#frequencies = ropeFrequencies(rope, HEAD_DIM);
    const random = seededRandom(seed);
    const weights = (rows: number, columns: number): Matrix =>
      Array.from({ length: rows }, () =>
        Array.from({ length: columns }, () => (random() * 2 - 1) * Math.sqrt(6 / columns)),
      );
    this.#embedding = weights(VOCAB, HIDDEN);
    this.#layers = Array.from({ length: LAYERS }, () => ({
      query: weights(HEADS * HEAD_DIM, HIDDEN),
      key: weights(ROW_WIDTH, HIDDEN),
      value: weights(ROW_WIDTH, HIDDEN),
      out: weights(HIDDEN, HEADS * HEAD_DIM),
      up: weights(2 * HIDDEN, HIDDEN),
      down: weights(HIDDEN, 2 * HIDDEN),
    }));
  }

  /**
   * Computes rows over past KV. Keys are the past, then the rows' own.
   * @param sees whether a row attends to a key, by their indices
   */
  prefill(
    rows: { readonly tokens: Vector; readonly positions: Int32Array; readonly past?: Kv },
    sees: (row: number, key: number) => boolean,
  ): Prefill {
    const past = rows.past ?? NO_KV;
    const keys: Float32Array[] = [];
    const values: Float32Array[] = [];
    let hidden: Matrix = rows.tokens.map((token) => this.#embedding[token]!);
    for (const [l, layer] of this.#layers.entries()) {
      const normed = hidden.map(norm);
      const rotated = (weights: Matrix) =>
        normed.map((x, i) => this.rotate(Float32Array.from(product(weights, x)), rows.positions[i]!));
      keys.push(joined(rotated(layer.key)));
      values.push(joined(normed.map((x) => Float32Array.from(product(layer.value, x)))));
      const kv = {
        keys: joined([past.keys[l]!, keys[l]!]),
        values: joined([past.values[l]!, values[l]!]),
      };
      hidden = rotated(layer.query).map((query, row) => {
        const attended = attention(query, kv, (key) => sees(row, key));
        const mixed = sum(hidden[row]!, product(layer.out, attended));
        return sum(mixed, product(layer.down, product(layer.up, norm(mixed)).map(Math.tanh)));
      });
    }
    return { logits: hidden.map((x) => product(this.#embedding, norm(x))), kv: { keys, values } };
  }

  /** A prompt, or a segment on its own from some position, in one causal tile. */
  prefillAll(tokens: Vector, start = 0): Prefill {
    const positions = Int32Array.from(tokens, (_, i) => start + i);
    return this.prefill({ tokens, positions }, (row, key) => key <= row);
  }

  /** Rows of heads, moved by some positions. */
  rotate(heads: Float32Array, positions: number): Float32Array {
    return rotateKeys(heads, { positions, frequencies: this.#frequencies, interleaved: this.#interleaved });
  }
}

/** Some rows of each layer, in the order of `indices`. */
export const gather = (kv: Kv, indices: Int32Array): Kv =>
  mapKv(kv, (rows) => joined(Array.from(indices, (i) => rows.subarray(i * ROW_WIDTH, (i + 1) * ROW_WIDTH))));

export const concat = (...parts: readonly Kv[]): Kv => ({
  keys: NO_KV.keys.map((_, l) => joined(parts.map((part) => part.keys[l]!))),
  values: NO_KV.values.map((_, l) => joined(parts.map((part) => part.values[l]!))),
});

/** Rows of which every number is the same large one: who reads them is found out. */
export const poison = (tokens: number): Kv =>
  everyLayer(() => new Float32Array(tokens * ROW_WIDTH).fill(1000));

export const mapKv = (kv: Kv, map: (rows: Float32Array) => Float32Array): Kv => ({
  keys: kv.keys.map(map),
  values: kv.values.map(map),
});

function everyLayer(rows: () => Float32Array): Kv {
  return { keys: Array.from({ length: LAYERS }, rows), values: Array.from({ length: LAYERS }, rows) };
}

function attention(
  query: Float32Array,
  kv: { readonly keys: Float32Array; readonly values: Float32Array },
  sees: (key: number) => boolean,
): Vector {
  const visible = Array.from({ length: kv.keys.length / ROW_WIDTH }, (_, key) => key).filter(sees);
  assert(visible.length > 0, 'a row sees itself');
  return Array.from({ length: HEADS }, (_, head) => {
    const kvHead = Math.floor((head * KV_HEADS) / HEADS) * HEAD_DIM;
    const row = (rows: Float32Array, at: number) => Array.from(rows.subarray(at, at + HEAD_DIM));
    const q = row(query, head * HEAD_DIM);
    const scores = visible.map((key) => dot(q, row(kv.keys, key * ROW_WIDTH + kvHead)) / Math.sqrt(HEAD_DIM));
    const highest = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - highest));
    const total = weights.reduce((a, b) => a + b);
    const weighted = visible.map(
      (key, i): Vector => row(kv.values, key * ROW_WIDTH + kvHead).map((v) => (v * weights[i]!) / total),
    );
    return weighted.reduce(sum);
  }).flat();
}

const dot = (a: Vector, b: Vector): number => a.reduce((total, x, i) => total + x * b[i]!, 0);
const sum = (a: Vector, b: Vector): Vector => a.map((x, i) => x + b[i]!);
const product = (weights: Matrix, x: Vector): Vector => weights.map((row) => dot(row, x));
const norm = (x: Vector): Vector => x.map((value) => value / Math.sqrt(dot(x, x) / x.length + 1e-6));

function joined(parts: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
