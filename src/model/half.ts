/**
 * 16-bit floats to float32, bit for bit (subnormals, infinities and NaN payloads included).
 *
 * float16 goes through a table of all 65,536 values; bfloat16 is the upper half of a float32. Knows no file formats.
 */
import { widenHalves } from '#storage';

/** The float32 bits of every float16, indexed by its 16 bits. */
const BITS = new Uint32Array(0x10000);
widenHalves(
  Uint16Array.from(BITS, (_, half) => half),
  BITS,
);

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
