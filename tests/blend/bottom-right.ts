/** The mask of the reference implementations, to show that ours differs and must. */
import { type BlendTile, MASKED } from '#blend';

/**
 * Causal, aligned to the bottom right: the last row sees all keys, each row above it one less. Right where the rows
 * are a contiguous suffix.
 */
export function bottomRightMask({ rows, keys }: BlendTile): Float32Array {
  return Float32Array.from({ length: rows.length * keys.length }, (_, at) => {
    const [row, key] = [Math.floor(at / keys.length), at % keys.length];
    return key <= row + keys.length - rows.length ? 0 : MASKED;
  });
}
