/**
 * Rotary position embedding: frequencies, and the rotation of cached keys to another position.
 *
 * Pure arithmetic in float64; the importer, the engine (cos/sin rows) and CacheBlend share it, so a key rotated by
 * the engine and one re-rotated by a blend agree. Position-dependent schemes (dynamic NTK, LongRoPE's switch) have
 * no place here: a key rotated by them cannot be moved (B3 would not hold).
 */

export type RopeScaling =
  | { readonly type: 'linear'; readonly factor: number }
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalContextTokens: number;
    }
  /** Explicit divisors of each frequency, `headDim / 2` of them (GGUF's `rope_freqs.weight`). */
  | { readonly type: 'factors'; readonly factors: readonly number[] };

export interface RopeSpec {
  readonly theta: number;
  /** Pairs are `(2i, 2i+1)` when true (GGUF llama), `(i, i + d/2)` when false (Hugging Face, qwen). */
  readonly interleaved: boolean;
  readonly scaling?: RopeScaling;
}
