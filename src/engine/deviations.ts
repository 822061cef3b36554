/** What a probe of cached rows tells. */

/** Each `[rows]` float32: L2 distances of cached K and V of the second layer, and norms of the fresh ones. */
export interface Deviations {
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly freshK: Float32Array;
  readonly freshV: Float32Array;
}
