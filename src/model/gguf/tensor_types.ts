/** Every tensor type we read, plain floats and quantised blocks alike. */
import { decodeBfloat16, decodeFloat, decodeHalf } from '../half.js';
import { BLOCK_TYPES } from './block_types.js';
import { type BlockType, dequantise } from './groups.js';

export interface TensorType {
  readonly name: string;
  readonly blockElements: number;
  readonly blockBytes: number;
  /** float32 values of whole blocks, bit-equal to the format's reference. */
  decode(bytes: Uint8Array): Float32Array;
  /** Present when the values are quantised blocks. */
  readonly blocks?: BlockType;
}

const FLOAT_TYPES: ReadonlyMap<number, TensorType> = new Map([
  [0, { name: 'F32', blockElements: 1, blockBytes: 4, decode: decodeFloat }],
  [1, { name: 'F16', blockElements: 1, blockBytes: 2, decode: decodeHalf }],
  [30, { name: 'BF16', blockElements: 1, blockBytes: 2, decode: decodeBfloat16 }],
]);

const QUANTISED_TYPES: ReadonlyMap<number, TensorType> = new Map(
  [...BLOCK_TYPES].map(([id, blocks]) => [
    id,
    {
      name: blocks.name,
      blockElements: blocks.blockElements,
      blockBytes: blocks.blockBytes,
      decode: (bytes: Uint8Array) => dequantise(blocks, bytes),
      blocks,
    },
  ]),
);

/** The type with a file's type number, or undefined when we do not read it. */
export function tensorType(id: number): TensorType | undefined {
  return FLOAT_TYPES.get(id) ?? QUANTISED_TYPES.get(id);
}
