/** KV reuse at other positions: layout → selection → plan → mask, and the rotation of keys. No bytes, no engine. */
export { tokenDeviations } from './deviation.js';
export {
  type CachedSegment,
  layoutSegments,
  type ReusedSpan,
  type ReusedTokens,
  reusedTokens,
  type SegmentLayout,
  type TokenRange,
} from './layout.js';
export { hiddenRatio } from './loading.js';
export { attends, MASKED, positionMask } from './mask.js';
export { type BlendPlan, type BlendTile, planBlend } from './plan.js';
export {
  type RopeScaling,
  type RopeSpec,
  ropeFrequencies,
  rotateKeys,
  type UnmovableReason,
  unmovable,
} from './rope.js';
export { type Measurement, recomputeTokens, type Selection, type Selector } from './selector.js';
export { DEFAULT_SELECTOR, SELECTORS, type SelectorName, type SelectorOptions } from './selectors.js';
