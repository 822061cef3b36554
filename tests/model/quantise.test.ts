/** Block quantisation of float weights. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { RadixkvError } from '../../src/errors.js';
import { quantiseBlocks } from '../../src/model/quantise.js';
import type { BlockMatrix } from '../../src/model/weights.js';
import { sampleValues } from '../support/tiny_model.js';

function rebuilt(matrix: BlockMatrix, i: number): number {
  const block = Math.floor(i / matrix.blockSize);
  const code = matrix.bits === 8 ? matrix.packed[i]! : (matrix.packed[i >> 1]! >> (4 * (i & 1))) & 15;
  return matrix.scales[block]! * (code - 2 ** (matrix.bits - 1)) + (matrix.offsets?.[block] ?? 0);
}

const quantise = (values: Float32Array, bits: 4 | 8): BlockMatrix =>
  quantiseBlocks({ kind: 'dense', rows: 2, cols: values.length / 2, values }, { bits, blockSize: 32 });

const magnitudes = fc.integer({ min: -30, max: 30 }).map((exponent) => 2 ** exponent);
const matrices = fc
  .tuple(
    fc.array(fc.tuple(magnitudes, fc.integer({ min: -3, max: 3 })), { minLength: 4, maxLength: 4 }),
    fc.nat(),
  )
  .map(([blocks, seed]) =>
    sampleValues(128, seed).map((value, i) => {
      const [magnitude, shift] = blocks[i >> 5]!;
      return (value + shift) * magnitude;
    }),
  );

const sizes = (matrix: BlockMatrix) => [matrix.packed.length, matrix.scales.length, matrix.offsets?.length];

describe('quantising blocks', () => {
  for (const bits of [8, 4] as const) {
    test(`to ${bits} bits is off by at most half a scale`, () => {
      fc.assert(
        fc.property(matrices, (values) => {
          const matrix = quantise(values, bits);
          for (const [i, value] of values.entries()) {
            const scale = matrix.scales[i >> 5]!;
            const rounding = (Math.abs(matrix.offsets?.[i >> 5] ?? 0) + Math.abs(value)) * 2 ** -23;
            assert.ok(Math.abs(rebuilt(matrix, i) - value) <= scale / 2 + rounding);
          }
        }),
      );
    });

    test(`to ${bits} bits keeps blocks of zeros and, with offsets, of one value`, () => {
      const values = new Float32Array(128);
      if (bits === 4) values.fill(-0.375, 32, 64);
      const matrix = quantise(values, bits);
      for (const [i, value] of values.entries()) assert.equal(rebuilt(matrix, i), value);
    });
  }

  test('to 4 bits reaches both ends of a block that is all on one side of zero', () => {
    const values = Float32Array.from({ length: 64 }, (_, i) => 5 + (i % 16) / 15);
    const matrix = quantise(values, 4);
    for (const [i, value] of values.entries()) assert.ok(Math.abs(rebuilt(matrix, i) - value) < 1e-6);
  });

  test('has the sizes of a BlockMatrix, and offsets only for 4 bits', () => {
    const values = sampleValues(256, 1);
    assert.deepEqual(sizes(quantise(values, 8)), [256, 8, undefined]);
    assert.deepEqual(sizes(quantise(values, 4)), [128, 8, 8]);
  });

  test('refuses rows that are no whole number of blocks', () => {
    assert.throws(
      () => quantise(new Float32Array(96), 8),
      (error) => error instanceof RadixkvError && error.code === 'unsupported_model',
    );
  });
});
