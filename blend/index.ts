export { type RopeScaling, type RopeSpec, ropeFrequencies, rotateKeys } from './rope.js';
