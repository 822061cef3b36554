/**
 * Byte layouts of the 256-element GGUF blocks ("K-quants"), little-endian, h = float16:
 *
 * | type | bytes, in order |
 * |---|---|
 * | Q4_K | h scale, h min, 12 of 6-bit scales and mins, 128 codes |
 * | Q5_K | h scale, h min, 12 of 6-bit scales and mins, 32 of fifth bits, 128 codes |
 * | Q6_K | 128 of low nibbles, 64 of upper bit pairs, 16 int8 scales, h scale |
 *
 * The groups of Q4_K and Q5_K are 32 wide and subtract their min; those of Q6_K are 16 wide.
 */
import { halfAt } from '../half.js';
import type { Groups } from './groups.js';

/**
 * The eight 6-bit scales and mins of a block: the first four are the low six bits of bytes 0–3 (scales) and 4–7
 * (mins); the last four take their low nibbles from bytes 8–11 and their high bits from the top of bytes 0–7.
 */
function unpackScales(bytes: Uint8Array, from: number, block: number, into: Groups): void {
  const scale = halfAt(bytes, from);
  const min = halfAt(bytes, from + 2);
  const packed = from + 4;
  for (let i = 0; i < 4; i++) {
    const scales = bytes[packed + i]!;
    const mins = bytes[packed + 4 + i]!;
    const low = bytes[packed + 8 + i]!;
    const group = block * 8 + i;
    into.scales[group] = scale * (scales & 63);
    into.offsets[group] = -(min * (mins & 63));
    into.scales[group + 4] = scale * ((low & 15) | ((scales >> 2) & 48));
    into.offsets[group + 4] = -(min * ((low >> 4) | ((mins >> 2) & 48)));
  }
}

/** 128 bytes hold four runs of 64 elements: low nibbles the first 32 of a run, high nibbles the other 32. */
function unpackNibbleRuns(bytes: Uint8Array, from: number, codes: Uint8Array, at: number): void {
  for (let run = 0; run < 4; run++) {
    for (let i = 0; i < 32; i++) {
      const byte = bytes[from + run * 32 + i]!;
      codes[at + run * 64 + i] = byte & 15;
      codes[at + run * 64 + 32 + i] = byte >> 4;
    }
  }
}

export function unpackQ4K(bytes: Uint8Array, into: Groups): void {
  for (let block = 0, from = 0; from < bytes.length; block++, from += 144) {
    unpackScales(bytes, from, block, into);
    unpackNibbleRuns(bytes, from + 16, into.codes, block * 256);
  }
}

export function unpackQ5K(bytes: Uint8Array, into: Groups): void {
  const { codes } = into;
  for (let block = 0, from = 0; from < bytes.length; block++, from += 176) {
    unpackScales(bytes, from, block, into);
    unpackNibbleRuns(bytes, from + 48, codes, block * 256);
    // Bit `group` of byte `i` belongs to element `i` of that group.
    for (let i = 0; i < 32; i++) {
      const fifthBits = bytes[from + 16 + i]!;
      for (let group = 0, at = block * 256 + i; group < 8; group++, at += 32) {
        codes[at] = codes[at]! | (((fifthBits >> group) & 1) << 4);
      }
    }
  }
}

export function unpackQ6K(bytes: Uint8Array, into: Groups): void {
  const { codes, scales } = into;
  for (let block = 0, from = 0; from < bytes.length; block++, from += 210) {
    const scale = halfAt(bytes, from + 208);
    for (let group = 0; group < 16; group++) {
      scales[block * 16 + group] = scale * ((bytes[from + 192 + group]! << 24) >> 24);
    }
    for (let half = 0; half < 2; half++) {
      const at = block * 256 + half * 128;
      const low = from + half * 64;
      for (let i = 0; i < 32; i++) {
        const pairs = bytes[from + 128 + half * 32 + i]!;
        const first = bytes[low + i]!;
        const second = bytes[low + 32 + i]!;
        codes[at + i] = (first & 15) | ((pairs & 3) << 4);
        codes[at + 32 + i] = (second & 15) | ((pairs & 12) << 2);
        codes[at + 64 + i] = (first >> 4) | (pairs & 48);
        codes[at + 96 + i] = (second >> 4) | ((pairs & 192) >> 2);
      }
    }
  }
}
