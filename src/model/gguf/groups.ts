/**
 * One form for every quantised tensor type of GGUF: value = scale[g] · (code − zero) + offset[g], with `g` a group
 * of 16 or 32 neighbours in a row.
 *
 * From it `dequantise` (float32, bit-equal to gguf-py: with float16 scales all products and sums below are exact in
 * float64, so the one rounding is the store) and `repack` (`BlockMatrix`) are the same for every type. Knows no
 * byte layouts; those are `legacy_blocks.ts` and `k_blocks.ts`.
 */
import type { BlockMatrix } from '../weights.js';

/** Where an unpacker writes: one code per element, one scale (and offset) per group. */
export interface Groups {
  readonly codes: Uint8Array;
  readonly scales: Float32Array;
  /** Written by types that have offsets, else untouched and empty. */
  readonly offsets: Float32Array;
}

export interface BlockType {
  readonly name: string;
  readonly blockElements: number;
  readonly blockBytes: number;
  /** Elements that share a scale. */
  readonly groupElements: 16 | 32;
  /** The code whose value is the bare offset. */
  readonly zero: number;
  readonly hasOffsets: boolean;
  /** The container of `repack`: 4 bits where codes fit, else 8. */
  readonly bits: 4 | 8;
  /** Unpacks whole blocks. */
  unpack(bytes: Uint8Array, into: Groups): void;
}

/** Takes whole blocks apart; `bytes.length` must be a multiple of `blockBytes`. */
function unpackGroups(type: BlockType, bytes: Uint8Array): Groups {
  const elements = (bytes.length / type.blockBytes) * type.blockElements;
  const groups = elements / type.groupElements;
  const into = {
    codes: new Uint8Array(elements),
    scales: new Float32Array(groups),
    offsets: new Float32Array(type.hasOffsets ? groups : 0),
  };
  type.unpack(bytes, into);
  return into;
}

/** float32 values `[elements]` of whole blocks, bit-equal to gguf-py's `dequantize`. */
export function dequantise(type: BlockType, bytes: Uint8Array): Float32Array {
  const { codes, scales, offsets } = unpackGroups(type, bytes);
  const values = new Float32Array(codes.length);
  const { zero, groupElements, hasOffsets } = type;
  for (let group = 0, at = 0; group < scales.length; group++) {
    const scale = scales[group]!;
    const end = at + groupElements;
    if (hasOffsets) {
      const offset = offsets[group]!;
      for (; at < end; at++) values[at] = scale * (codes[at]! - zero) + offset;
    } else {
      // No "+ 0": it would turn the reference's negative zeros into positive ones.
      for (; at < end; at++) values[at] = scale * (codes[at]! - zero);
    }
  }
  return values;
}

/**
 * The same matrix `[rows, cols]` as a `BlockMatrix`. Codes are kept exactly. In the 4-bit container types with a
 * zero other than 8 (Q4_1, Q4_K) move the difference into the offset, `offset + 8 · scale`, rounded once to
 * float32; in the 8-bit container codes are shifted instead and nothing is rounded.
 */
export function repack(
  type: BlockType,
  bytes: Uint8Array,
  { rows, cols }: { readonly rows: number; readonly cols: number },
): BlockMatrix {
  const { codes, scales, offsets } = unpackGroups(type, bytes);
  const shift = 2 ** (type.bits - 1) - type.zero;
  let packed = codes;
  if (type.bits === 4) {
    packed = new Uint8Array(codes.length / 2);
    for (let i = 0, at = 0; i < packed.length; i++, at += 2) packed[i] = codes[at]! | (codes[at + 1]! << 4);
    for (let i = 0; i < offsets.length; i++) offsets[i] = offsets[i]! + shift * scales[i]!;
  } else {
    for (let i = 0; i < codes.length; i++) codes[i] = codes[i]! + shift;
  }
  const matrix = { kind: 'blocks', rows, cols, bits: type.bits, blockSize: type.groupElements } as const;
  return type.hasOffsets ? { ...matrix, packed, scales, offsets } : { ...matrix, packed, scales };
}
