/**
 * The border between model files and graph builders: tensors by canonical name, and linear weights in a form that
 * ONNX Runtime multiplies without loss.
 *
 * Canonical names are GGUF's: `token_embd.weight`, `output_norm.weight`, `output.weight` (absent when tied), and
 * per layer `blk.{i}.attn_norm|attn_q|attn_k|attn_v|attn_output|ffn_norm|ffn_gate|ffn_up|ffn_down.weight`,
 * `blk.{i}.attn_q|attn_k|attn_v.bias`, `blk.{i}.attn_q_norm|attn_k_norm.weight`.
 */
import type { ModelSpec } from './spec.js';

/** A dense matrix, row-major `[rows, cols]`: `y = x · Wᵀ`, so `rows` are output features, `cols` input features. */
export interface DenseMatrix {
  readonly kind: 'dense';
  readonly rows: number;
  readonly cols: number;
  /** `rows × cols` float32. */
  readonly values: Float32Array;
}

/**
 * A block-quantised matrix in the layout of `MatMulNBits`: element `(r, c)` equals
 * `scale[r, b] · (q − 2^(bits−1)) + offset[r, b]` with `b = floor(c / blockSize)`.
 */
export interface BlockMatrix {
  readonly kind: 'blocks';
  readonly rows: number;
  readonly cols: number;
  readonly bits: 4 | 8;
  readonly blockSize: 16 | 32;
  /** `[rows, cols/blockSize, blockSize·bits/8]`; for 4 bits the even element of a pair is the low nibble. */
  readonly packed: Uint8Array;
  /** `[rows, cols/blockSize]` float32. */
  readonly scales: Float32Array;
  /** `[rows, cols/blockSize]` float32; absent when every offset is zero. */
  readonly offsets?: Float32Array;
}

export type LinearMatrix = DenseMatrix | BlockMatrix;

/** A model's tensors, read on demand; close it after the import. */
export interface WeightSource {
  readonly spec: ModelSpec;
  /** What the importer prints and the manifest records, e.g. `GGUF Q4_1` or `safetensors BF16`. */
  readonly description: string;
  has(name: string): boolean;
  /** A vector (norm weight or bias), dequantised. */
  vector(name: string): Promise<Float32Array>;
  /** A matrix dequantised to float32, exactly as the format's reference does. */
  dense(name: string): Promise<DenseMatrix>;
  /**
   * A matrix in its own quantised form where that form fits `BlockMatrix` without loss (Q4_0, Q4_1, Q4_K → 4 bits;
   * Q8_0, Q5_0, Q5_1, Q5_K, Q6_K → 8 bits), else dense.
   */
  exact(name: string): Promise<LinearMatrix>;
  close(): Promise<void>;
}
