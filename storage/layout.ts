/**
 * What the bytes of a KV chunk are: the format of a chunk at rest, in every tier.
 *
 * A chunk holds `chunkTokens` tokens of all layers in the model's KV type, little-endian, without header or padding.
 * With B = kvHeads · headDim · (2 or 4) bytes a row and T = chunkTokens rows:
 *
 * | byte offset           | bytes | content                                         |
 * |-----------------------|-------|-------------------------------------------------|
 * | l · 2 · T · B         | T · B | K of layer l: `[T, R]`, token-major, after RoPE |
 * | (l · 2 + 1) · T · B   | T · B | V of layer l: `[T, R]`, token-major             |
 *
 * Knows no model beyond these numbers.
 */
import assert from 'node:assert/strict';

export interface KvShape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly chunkTokens: number;
  readonly dtype: 'float16' | 'float32';
}

export interface KvLayout extends KvShape {
  /** Bytes in one K or V row of one token. */
  readonly rowBytes: number;
  /** Runs of rows in a chunk: K and V of each layer. */
  readonly sections: number;
  /** Bytes of all rows of one token. */
  readonly tokenBytes: number;
  /** Bytes of one chunk. */
  readonly chunkBytes: number;
}

/** Completes a shape with what follows from it. Asserts positive integers. */
export function kvLayout(shape: KvShape): KvLayout {
  const { layers, kvHeads, headDim, chunkTokens } = shape;
  for (const count of [layers, kvHeads, headDim, chunkTokens])
    assert(Number.isSafeInteger(count) && count > 0);
  const rowBytes = kvHeads * headDim * (shape.dtype === 'float16' ? 2 : 4);
  const sections = 2 * layers;
  const tokenBytes = sections * rowBytes;
  return { ...shape, rowBytes, sections, tokenBytes, chunkBytes: chunkTokens * tokenBytes };
}
