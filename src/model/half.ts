/**
 * 16-bit floats to float32, bit for bit (subnormals, infinities and NaN payloads included).
 *
 * float16 goes through a table of all 65,536 values; bfloat16 is the upper half of a float32. Knows no file formats.
 */

/** The float32 bits of one float16. A subnormal half is `mantissa · 2⁻²⁴`, exact in float32. */
function halfBits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (mantissa << 13);
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (mantissa << 13);
  if (mantissa === 0) return sign;
  const leading = 31 - Math.clz32(mantissa);
  return sign | ((leading + 103) << 23) | ((mantissa << (23 - leading)) & 0x7fffff);
}

const BITS = Uint32Array.from({ length: 0x10000 }, (_, half) => halfBits(half));

/** float32 value of every float16, indexed by its 16 bits. 256 kB, shared; do not write. */
const HALF_TO_FLOAT = new Float32Array(BITS.buffer);

/** The little-endian float16 at a byte offset. */
export const halfAt = (bytes: Uint8Array, at: number): number =>
  HALF_TO_FLOAT[bytes[at]! | (bytes[at + 1]! << 8)]!;

/** Decodes little-endian float16 `[n]`; copies bits, so NaN payloads survive. */
export function decodeHalf(bytes: Uint8Array): Float32Array {
  const bits = new Uint32Array(bytes.length / 2);
  for (let i = 0, at = 0; i < bits.length; i++, at += 2) bits[i] = BITS[bytes[at]! | (bytes[at + 1]! << 8)]!;
  return new Float32Array(bits.buffer);
}

/** Decodes little-endian bfloat16 `[n]`. */
export function decodeBfloat16(bytes: Uint8Array): Float32Array {
  const bits = new Uint32Array(bytes.length / 2);
  for (let i = 0, at = 0; i < bits.length; i++, at += 2)
    bits[i] = (bytes[at]! << 16) | (bytes[at + 1]! << 24);
  return new Float32Array(bits.buffer);
}

/** Decodes little-endian float32 `[n]` into memory of its own (file bytes need not be aligned). */
export function decodeFloat(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.slice().buffer);
}
