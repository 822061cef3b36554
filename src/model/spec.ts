/**
 * What a decoder-only transformer is, independent of the file it came from.
 *
 * Every importer (GGUF, Hugging Face directory) normalises to a `ModelSpec`; the graph builders, the engine and
 * the cache key know nothing else about an architecture. Knows no file formats and no ONNX.
 */
import type { RopeSpec } from '#blend';

/** Architectures whose graphs we build. Anything else is refused by name at import. */
export const ARCHITECTURES = ['llama', 'mistral', 'qwen2', 'qwen3'] as const;
export type Architecture = (typeof ARCHITECTURES)[number];

export interface ModelSpec {
  readonly architecture: Architecture;
  readonly layers: number;
  /** Width of the residual stream. */
  readonly hidden: number;
  /** Query heads, and the key/value heads they share (GQA). `heads % kvHeads === 0`. */
  readonly heads: number;
  readonly kvHeads: number;
  /** Width of one head; need not equal `hidden / heads`. */
  readonly headDim: number;
  /** Width of the gated feed-forward layer. */
  readonly intermediate: number;
  readonly vocab: number;
  /** Longest sequence the model may see. A sliding window caps it, so attention is always full attention. */
  readonly contextTokens: number;
  readonly normEpsilon: number;
  readonly rope: RopeSpec;
  /** Biases on the query, key and value projections (qwen2). */
  readonly qkvBias: boolean;
  /** RMS norm of each query and key head before RoPE (qwen3). */
  readonly qkNorm: boolean;
  /** The output head is the embedding matrix. */
  readonly tiedEmbeddings: boolean;
}
