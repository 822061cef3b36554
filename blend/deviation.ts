/**
 * KV deviation: how far a token's cached key or value is from a freshly computed one.
 *
 * Source: CacheBlend (Yao et al., EuroSys 2025) §4.1, there an absolute difference; its code sums the squares over
 * heads, which ranks tokens as this L2 distance does. The first layer's K and V depend on token and position alone:
 * they deviate by rounding only, so the second layer is the first that tells anything.
 */
import assert from 'node:assert/strict';

/**
 * The L2 distance of two rows over all their heads, token by token.
 *
 * Of keys, both must be rotated to the same position; which one doesn't matter, since a rotation keeps distances.
 * @param fresh `[tokens, rowWidth]` float32, computed now: K or V of one layer
 * @param cached `[tokens, rowWidth]` float32, of the same tokens in the same order
 * @param options.rowWidth `kvHeads × headDim`
 * @param options.relative divides by the L2 norm of the fresh row; where that is 0, the result is 0 for equal rows
 * and infinite for others. Default: the distance as it is
 * @returns `[tokens]`
 */
export function tokenDeviations(
  fresh: Float32Array,
  cached: Float32Array,
  options: { readonly rowWidth: number; readonly relative?: boolean },
): Float64Array {
  const { rowWidth, relative = false } = options;
  assert(Number.isSafeInteger(rowWidth) && rowWidth > 0);
  assert(fresh.length === cached.length && fresh.length % rowWidth === 0, 'rows of one shape');
  const deviations = new Float64Array(fresh.length / rowWidth);
  for (let token = 0, at = 0; token < deviations.length; token++) {
    let distance = 0;
    let norm = 0;
    for (const end = at + rowWidth; at < end; at++) {
      distance += (fresh[at]! - cached[at]!) ** 2;
      norm += fresh[at]! ** 2;
    }
    deviations[token] = relative && distance > 0 ? Math.sqrt(distance / norm) : Math.sqrt(distance);
  }
  return deviations;
}
