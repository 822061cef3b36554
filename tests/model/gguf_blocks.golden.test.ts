/** Dequantisation and repacking of every GGUF tensor type, against vectors made with gguf-py. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { BLOCK_TYPES } from '../../src/model/gguf/block_types.js';
import { repack } from '../../src/model/gguf/groups.js';
import { tensorType } from '../../src/model/gguf/tensor_types.js';
import type { BlockMatrix } from '../../src/model/weights.js';
import { base64Bytes, goldenJson } from '../support/golden.js';

const golden = z
  .record(z.string(), z.object({ bytes: z.string(), values: z.string() }))
  .parse(goldenJson('gguf_blocks.json'));
const FLOAT_TYPE_IDS = [0, 1, 30];

const bits = (values: Float32Array): Uint32Array => new Uint32Array(values.buffer);

const codeOf = (matrix: BlockMatrix, i: number): number =>
  matrix.bits === 8 ? matrix.packed[i]! : (matrix.packed[i >> 1]! >> (4 * (i & 1))) & 15;

describe('a GGUF tensor type', () => {
  test('is covered by a golden vector, whichever we read', () => {
    const names = [...FLOAT_TYPE_IDS, ...BLOCK_TYPES.keys()].map((id) => tensorType(id)!.name);
    assert.deepEqual(names.sort(), Object.keys(golden).sort());
  });

  for (const id of [...FLOAT_TYPE_IDS, ...BLOCK_TYPES.keys()]) {
    const type = tensorType(id)!;
    const { bytes, values } = golden[type.name]!;
    test(`${type.name} dequantises to the reference's float32 bits`, () => {
      const expected = bits(new Float32Array(base64Bytes(values).buffer));
      assert.deepEqual(bits(type.decode(base64Bytes(bytes))), expected);
    });
  }

  for (const type of BLOCK_TYPES.values()) {
    const { bytes, values } = golden[type.name]!;
    const expected = new Float32Array(base64Bytes(values).buffer);
    const matrix = repack(type, base64Bytes(bytes), { rows: 1, cols: expected.length });

    test(`${type.name} repacked has the sizes of a BlockMatrix`, () => {
      assert.equal(matrix.packed.length, (expected.length * matrix.bits) / 8);
      assert.equal(matrix.scales.length, expected.length / matrix.blockSize);
      if (matrix.offsets) assert.equal(matrix.offsets.length, matrix.scales.length);
    });

    test(`${type.name} repacked reconstructs the dequantised values to one rounding of its offset`, () => {
      for (const [i, value] of expected.entries()) {
        const block = Math.floor(i / matrix.blockSize);
        const centred = codeOf(matrix, i) - 2 ** (matrix.bits - 1);
        const offset = matrix.offsets?.[block] ?? 0;
        const rebuilt = matrix.scales[block]! * centred + offset;
        // Half an ulp of the offset, and half an ulp of the reference's own rounding.
        const tolerance = (Math.abs(offset) + Math.abs(value)) * 2 ** -24;
        assert.ok(Math.abs(rebuilt - value) <= tolerance, `element ${i}: ${rebuilt} instead of ${value}`);
      }
    });
  }

  test('repacked keeps the codes of the file', () => {
    const q4 = base64Bytes(golden.Q4_1!.bytes);
    const four = repack(BLOCK_TYPES.get(3)!, q4, { rows: 1, cols: (q4.length / 20) * 32 });
    const q8 = base64Bytes(golden.Q8_0!.bytes);
    const eight = repack(BLOCK_TYPES.get(8)!, q8, { rows: 1, cols: (q8.length / 34) * 32 });
    for (let block = 0; block < 3; block++) {
      for (let i = 0; i < 32; i++) {
        const nibbles = q4[block * 20 + 4 + (i & 15)]!;
        assert.equal(codeOf(four, block * 32 + i), i < 16 ? nibbles & 15 : nibbles >> 4);
        assert.equal(codeOf(eight, block * 32 + i), ((q8[block * 34 + 2 + i]! << 24) >> 24) + 128);
      }
    }
  });
});
