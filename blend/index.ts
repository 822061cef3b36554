export type { RopeScaling, RopeSpec } from './rope.js';
