/**
 * Byte layouts of the 32-element GGUF blocks, little-endian, h = float16:
 *
 * | type | bytes, in order |
 * |---|---|
 * | Q4_0 | h scale, 16 codes |
 * | Q4_1 | h scale, h min, 16 codes |
 * | Q5_0 | h scale, 4 of fifth bits, 16 codes |
 * | Q5_1 | h scale, h min, 4 of fifth bits, 16 codes |
 * | Q8_0 | h scale, 32 int8 codes |
 */
import { halfAt } from '../half.js';
import type { Groups } from './groups.js';

/** Low nibbles are elements 0–15 of a block, high nibbles 16–31. */
function unpackNibbles(bytes: Uint8Array, from: number, codes: Uint8Array, at: number): void {
  for (let i = 0; i < 16; i++) {
    const byte = bytes[from + i]!;
    codes[at + i] = byte & 15;
    codes[at + 16 + i] = byte >> 4;
  }
}

/** Adds bit `i` of the little-endian 32 bits at `from` to code `i`, as its fifth bit. */
function addFifthBits(bytes: Uint8Array, from: number, codes: Uint8Array, at: number): void {
  for (let i = 0; i < 32; i++)
    codes[at + i] = codes[at + i]! | (((bytes[from + (i >> 3)]! >> (i & 7)) & 1) << 4);
}

/** Q4_0, Q4_1, Q5_0, Q5_1: scale, perhaps min, perhaps fifth bits, nibbles. */
export function unpackNibbleBlocks(
  bytes: Uint8Array,
  into: Groups,
  has: { readonly min: boolean; readonly fifthBits: boolean },
): void {
  for (let block = 0, from = 0; block < into.scales.length; block++) {
    into.scales[block] = halfAt(bytes, from);
    from += 2;
    if (has.min) {
      into.offsets[block] = halfAt(bytes, from);
      from += 2;
    }
    const high = from;
    if (has.fifthBits) from += 4;
    unpackNibbles(bytes, from, into.codes, block * 32);
    if (has.fifthBits) addFifthBits(bytes, high, into.codes, block * 32);
    from += 16;
  }
}

/** Q8_0. */
export function unpackQ8(bytes: Uint8Array, into: Groups): void {
  for (let block = 0, from = 0; block < into.scales.length; block++) {
    into.scales[block] = halfAt(bytes, from);
    from += 2;
    // Two's complement to excess 128.
    for (let at = block * 32, end = at + 32; at < end; at++) into.codes[at] = bytes[from++]! ^ 0x80;
  }
}
