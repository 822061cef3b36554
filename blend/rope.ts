/**
 * Rotary position embedding: frequencies, and the rotation of cached keys to another position.
 *
 * Pure arithmetic in float64; the importer, the engine (cos/sin rows) and CacheBlend share it, so a key rotated by
 * the engine and one re-rotated by a blend agree. Schemes whose frequencies change with the sequence have no place
 * here: a key rotated by them cannot be moved (B3 would not hold). See `unmovable`.
 */

import assert from 'node:assert/strict';

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

/** Why keys cannot be moved to another position. */
export type UnmovableReason =
  /** Dynamic NTK: theta grows with the sequence. */
  | 'dynamic_ntk'
  /** LongRoPE: other factors beyond a length. */
  | 'longrope_switch'
  /** Frequencies that we can't make, YaRN's among them. */
  | 'unknown_scaling';

const SCALINGS: ReadonlyMap<string, UnmovableReason | undefined> = new Map([
  ...['default', 'none', 'linear', 'llama3', 'factors'].map((name) => [name, undefined] as const),
  ['dynamic', 'dynamic_ntk'],
  ['longrope', 'longrope_switch'],
  ['su', 'longrope_switch'],
]);

/**
 * Why keys rotated by a scheme cannot be moved, `undefined` if they can.
 * @param scaling the scheme as model files or a `RopeScaling` name it; `undefined` without scaling
 */
export function unmovable(scaling: string | undefined): UnmovableReason | undefined {
  if (scaling === undefined) return undefined;
  return SCALINGS.has(scaling) ? SCALINGS.get(scaling) : 'unknown_scaling';
}

/**
 * Inverse frequencies of a rope, `[headDim / 2]` radians per position, highest first, scaling applied.
 *
 * Source: RoFormer (Su et al., 2021) §3.4; `linear` is position interpolation; `llama3` divides the frequencies whose
 * wavelength exceeds the original context and blends between the two wavelength bounds. The references compute in
 * float32; we keep float64.
 * @param headDim width of what is rotated: of a partial rotary, its first dimensions
 */
export function ropeFrequencies(rope: RopeSpec, headDim: number): Float64Array {
  assert(Number.isInteger(headDim / 2) && headDim > 0, `head width ${headDim} is not even`);
  return Float64Array.from({ length: headDim / 2 }, (_, i) =>
    scaledFrequency(rope.theta ** ((-2 * i) / headDim), i, rope.scaling),
  );
}

function scaledFrequency(frequency: number, index: number, scaling: RopeScaling | undefined): number {
  if (scaling === undefined) return frequency;
  if (scaling.type === 'linear') return frequency / scaling.factor;
  if (scaling.type === 'llama3') return llama3Frequency(frequency, scaling);
  const factor = scaling.factors[index];
  assert(factor !== undefined, `only ${scaling.factors.length} rope factors`);
  return frequency / factor;
}

function llama3Frequency(frequency: number, scaling: Extract<RopeScaling, { type: 'llama3' }>): number {
  const { factor, lowFreqFactor, highFreqFactor, originalContextTokens } = scaling;
  const turns = (originalContextTokens * frequency) / (2 * Math.PI);
  if (turns < lowFreqFactor) return frequency / factor;
  if (turns > highFreqFactor) return frequency;
  const kept = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return (1 - kept) * (frequency / factor) + kept * frequency;
}

/**
 * Moves rotated keys by `positions` (which may be negative): a key of position p becomes the key of p + positions.
 *
 * Trig and products are float64, rounded once to float32. `shift(a)` then `shift(b)` equals `shift(a + b)` up to
 * that rounding, `positions: 0` copies bit for bit, and norms are kept (invariant B3). Always shift the stored
 * original, so that roundings don't add up. A factor on cos and sin (an attention factor) is in the stored key
 * already and must not be in the shift.
 * @param keys `[tokens, kvHeads × headDim]` float32 (any number of heads side by side)
 * @param shift.frequencies of `ropeFrequencies`, `[headDim / 2]`
 * @param shift.headDim width of a head, when only its first `2 × frequencies` dimensions are rotated (partial rotary)
 * @param into where to write, as long as `keys`; may be `keys` itself. The default is fresh memory and leaves `keys`
 * alone.
 * @returns `into`
 */
export function rotateKeys(
  keys: Float32Array,
  shift: {
    readonly positions: number;
    readonly frequencies: Float64Array;
    readonly interleaved: boolean;
    readonly headDim?: number;
  },
  into: Float32Array = new Float32Array(keys.length),
): Float32Array {
  const pairs = shift.frequencies.length;
  const headDim = shift.headDim ?? pairs * 2;
  assert(headDim >= pairs * 2, 'a head is at least as wide as what is rotated');
  assert(keys.length % headDim === 0 && into.length === keys.length, 'keys are not whole heads of one size');
  if (into !== keys && (shift.positions === 0 || headDim > pairs * 2)) into.set(keys);
  if (shift.positions === 0) return into;
  const cos = shift.frequencies.map((frequency) => Math.cos(shift.positions * frequency));
  const sin = shift.frequencies.map((frequency) => Math.sin(shift.positions * frequency));
  const step = shift.interleaved ? 2 : 1;
  const partner = shift.interleaved ? 1 : pairs;
  for (let head = 0; head < keys.length; head += headDim) {
    for (let pair = 0, at = head; pair < pairs; pair++, at += step) {
      const a = keys[at]!;
      const b = keys[at + partner]!;
      into[at] = a * cos[pair]! - b * sin[pair]!;
      into[at + partner] = a * sin[pair]! + b * cos[pair]!;
    }
  }
  return into;
}
