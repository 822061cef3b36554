/** The quantised tensor types we read, by the type number in the file. Anything else is refused by name. */
import type { BlockType } from './groups.js';
import { unpackQ4K, unpackQ5K, unpackQ6K } from './k_blocks.js';
import { unpackNibbleBlocks, unpackQ8 } from './legacy_blocks.js';

const block32 = { blockElements: 32, groupElements: 32 } as const;
const block256 = { blockElements: 256, groupElements: 32 } as const;

/** Type number → type. */
export const BLOCK_TYPES: ReadonlyMap<number, BlockType> = new Map<number, BlockType>([
  [
    2,
    {
      ...block32,
      name: 'Q4_0',
      blockBytes: 18,
      zero: 8,
      hasOffsets: false,
      bits: 4,
      unpack: (bytes, into) => unpackNibbleBlocks(bytes, into, { min: false, fifthBits: false }),
    },
  ],
  [
    3,
    {
      ...block32,
      name: 'Q4_1',
      blockBytes: 20,
      zero: 0,
      hasOffsets: true,
      bits: 4,
      unpack: (bytes, into) => unpackNibbleBlocks(bytes, into, { min: true, fifthBits: false }),
    },
  ],
  [
    6,
    {
      ...block32,
      name: 'Q5_0',
      blockBytes: 22,
      zero: 16,
      hasOffsets: false,
      bits: 8,
      unpack: (bytes, into) => unpackNibbleBlocks(bytes, into, { min: false, fifthBits: true }),
    },
  ],
  [
    7,
    {
      ...block32,
      name: 'Q5_1',
      blockBytes: 24,
      zero: 0,
      hasOffsets: true,
      bits: 8,
      unpack: (bytes, into) => unpackNibbleBlocks(bytes, into, { min: true, fifthBits: true }),
    },
  ],
  [8, { ...block32, name: 'Q8_0', blockBytes: 34, zero: 128, hasOffsets: false, bits: 8, unpack: unpackQ8 }],
  [12, { ...block256, name: 'Q4_K', blockBytes: 144, zero: 0, hasOffsets: true, bits: 4, unpack: unpackQ4K }],
  [13, { ...block256, name: 'Q5_K', blockBytes: 176, zero: 0, hasOffsets: true, bits: 8, unpack: unpackQ5K }],
  [
    14,
    {
      blockElements: 256,
      groupElements: 16,
      name: 'Q6_K',
      blockBytes: 210,
      zero: 32,
      hasOffsets: false,
      bits: 8,
      unpack: unpackQ6K,
    },
  ],
]);
