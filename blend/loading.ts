/** How much recomputation hides behind loading: the loading controller's arithmetic. */
import assert from 'node:assert/strict';

/**
 * The recompute ratio that a loading time hides: the one whose recomputation takes as long as the loading it runs
 * beside, so that what is slow to load is recomputed for better quality at no time. Never below what quality asks.
 *
 * Source: CacheBlend (Yao et al., EuroSys 2025) §5.1, the ratio where both times are equal, and at least r* = 15 %.
 * The paper compares the times of a layer, which are these times over the layers, so the ratio is the same; it holds
 * where loading and computing overlap. A token that costs nothing to recompute is recomputed.
 * @param costs.loadMsPerToken from where the KV is to where the graph reads it, all layers
 * @param costs.recomputeMsPerToken of a prefill at this length, all layers
 * @param costs.ratioMin r*, in [0, 1]: the least ratio whose quality is good enough
 * @returns in [ratioMin, 1]
 */
export function hiddenRatio(costs: {
  readonly loadMsPerToken: number;
  readonly recomputeMsPerToken: number;
  readonly ratioMin: number;
}): number {
  const { loadMsPerToken, recomputeMsPerToken, ratioMin } = costs;
  assert(loadMsPerToken >= 0 && recomputeMsPerToken >= 0 && ratioMin >= 0 && ratioMin <= 1);
  if (recomputeMsPerToken === 0) return 1;
  return Math.max(ratioMin, Math.min(1, loadMsPerToken / recomputeMsPerToken));
}
