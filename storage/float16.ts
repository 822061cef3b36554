/**
 * float32 to float16 and back, bit for bit, as IEEE 754 has it.
 *
 * Encoding rounds to nearest, ties to even; what is too large becomes infinity, and a NaN stays a NaN of the same
 * upper payload bits. Decoding is exact, through a table. Works on bits only, so no value is ever changed by a move
 * through a floating-point register.
 */
import assert from 'node:assert/strict';

/** The bits of a float32 that equals the float16 of these bits. A subnormal half is `mantissa · 2⁻²⁴`. */
function widen(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (mantissa << 13);
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (mantissa << 13);
  if (mantissa === 0) return sign;
  const leading = 31 - Math.clz32(mantissa);
  return sign | ((leading + 103) << 23) | ((mantissa << (23 - leading)) & 0x7fffff);
}

const WIDENED = Uint32Array.from({ length: 0x10000 }, (_, half) => widen(half));

/** The float16 nearest to the float32 of these bits. */
function narrow(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7c00 | ((magnitude >>> 13) & 0x3ff) | quiet(magnitude);
  // From half way between the largest half and the next power of two on, everything rounds to infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) {
    const odd = (magnitude >>> 13) & 1;
    return sign | ((magnitude - 0x38000000 + 0xfff + odd) >>> 13);
  }
  // Half of the smallest subnormal, and below: zero (the tie is even).
  if (magnitude <= 0x33000000) return sign;
  const shift = 126 - (magnitude >>> 23);
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const half = mantissa >>> shift;
  const rest = mantissa & ((1 << shift) - 1);
  const tie = 1 << (shift - 1);
  return sign | (half + (rest > tie || (rest === tie && half & 1) ? 1 : 0));
}

/** A NaN whose payload lies in the bits that go would read as infinity. */
function quiet(magnitude: number): number {
  return (magnitude >>> 13) & 0x3ff ? 0 : 0x200;
}

/** Rounds `from` `[n]` float32 into `out` `[n]` float16, both as bits. */
export function narrowFloats(from: Uint32Array, out: Uint16Array): void {
  assert.equal(from.length, out.length);
  for (let i = 0; i < from.length; i++) out[i] = narrow(from[i]!);
}

/** Widens `from` `[n]` float16 into `out` `[n]` float32, both as bits. */
export function widenHalves(from: Uint16Array, out: Uint32Array): void {
  assert.equal(from.length, out.length);
  for (let i = 0; i < from.length; i++) out[i] = WIDENED[from[i]!]!;
}
