/**
 * Who attends to whom when rows are scattered: by position, never by place in a tensor.
 *
 * Invariant B4: a row never sees a key at a later position. A causal mask aligned to the bottom right, which holds
 * for a contiguous suffix, breaks it: it shows a recomputed row all cached keys, those after it too (CacheBlend's
 * research code and LMCache's flash-attention path do so).
 */

/** Added to a masked score. Finite, since a softmax in blocks makes NaN of a block that is all -∞. */
export const MASKED = -1e9;

/** Whether a row at one position sees a key at another. */
export function attends(rowPosition: number, keyPosition: number): boolean {
  return keyPosition <= rowPosition;
}

/**
 * The additive mask of some rows: 0 where the row attends, `MASKED` elsewhere.
 * @param rows positions of the rows, `[rows]`
 * @param keys positions of the keys in the order the graph sees them: the past, then the rows' own; `[keys]`
 * @returns `[rows, keys]` float32
 */
export function positionMask(rows: Int32Array, keys: Int32Array): Float32Array {
  const mask = new Float32Array(rows.length * keys.length);
  let at = 0;
  for (const row of rows) {
    for (const key of keys) mask[at++] = attends(row, key) ? 0 : MASKED;
  }
  return mask;
}
