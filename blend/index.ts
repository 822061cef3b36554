export {
  type RopeScaling,
  type RopeSpec,
  ropeFrequencies,
  rotateKeys,
  type UnmovableReason,
  unmovable,
} from './rope.js';
