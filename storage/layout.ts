/**
 * What the bytes of a KV chunk are: the format of a chunk at rest, in every tier.
 *
 * A chunk holds `chunkTokens` tokens of all layers, float32 little-endian, without header or padding. With
 * R = kvHeads · headDim floats a row and T = chunkTokens rows:
 *
 * | byte offset               | bytes     | content                                        |
 * |---------------------------|-----------|------------------------------------------------|
 * | l · 2 · T · R · 4         | T · R · 4 | K of layer l: `[T, R]`, token-major, after RoPE |
 * | (l · 2 + 1) · T · R · 4   | T · R · 4 | V of layer l: `[T, R]`, token-major            |
 *
 * Knows no model beyond these numbers.
 */
import assert from 'node:assert/strict';

export interface KvShape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly chunkTokens: number;
  readonly dtype: 'float32';
}

export interface KvLayout extends KvShape {
  /** Floats in one K or V row of one token: `kvHeads * headDim`. */
  readonly rowFloats: number;
  /** Bytes of one chunk. */
  readonly chunkBytes: number;
}

/** Completes a shape with what follows from it. Asserts positive integers. */
export function kvLayout(shape: KvShape): KvLayout {
  const { layers, kvHeads, headDim, chunkTokens } = shape;
  for (const count of [layers, kvHeads, headDim, chunkTokens])
    assert(Number.isSafeInteger(count) && count > 0);
  const rowFloats = kvHeads * headDim;
  const chunkBytes = layers * 2 * chunkTokens * rowFloats * Float32Array.BYTES_PER_ELEMENT;
  return { ...shape, rowFloats, chunkBytes };
}

/** Where the K or V rows of a layer start in a chunk, in floats; they are `chunkTokens * rowFloats` floats long. */
export function rowsOffset(
  layout: KvLayout,
  part: { readonly layer: number; readonly of: 'k' | 'v' },
): number {
  const runs = part.layer * 2 + (part.of === 'k' ? 0 : 1);
  return runs * layout.chunkTokens * layout.rowFloats;
}
