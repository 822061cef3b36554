/**
 * Block quantisation of float weights, for a smaller and faster model at a stated error.
 *
 * Meant for float sources only: a matrix that a file already holds quantised is kept as it is (`exact`), because
 * quantising twice damages a model.
 */
import { RadixkvError } from '../errors.js';
import type { BlockMatrix, DenseMatrix } from './weights.js';

/** A block's line: code q stands for `scale · (q − 2^(bits−1)) + offset`. Both are float32 numbers. */
interface BlockFit {
  readonly scale: number;
  readonly offset: number;
}

/**
 * Quantises `[rows, cols]` in blocks of `blockSize` neighbours of a row, rounding to nearest.
 *
 * 8 bits: symmetric, `scale = max|v| / 127`, no offsets. 4 bits: fitted between the block's extremes,
 * `scale = (max − min) / 15`, `offset = min + 8 · scale`. Either way an element is off by at most `scale / 2` and the
 * float32 rounding of scale and offset.
 * @throws RadixkvError `unsupported_model` when rows are no whole number of blocks
 */
export function quantiseBlocks(
  matrix: DenseMatrix,
  { bits, blockSize }: { readonly bits: 4 | 8; readonly blockSize: 32 },
): BlockMatrix {
  const { rows, cols, values } = matrix;
  if (cols % blockSize !== 0) {
    throw new RadixkvError(
      'unsupported_model',
      `rows of ${cols} weights can't be quantised in blocks of ${blockSize}`,
    );
  }
  const blocks = values.length / blockSize;
  const packed = new Uint8Array((values.length * bits) / 8);
  const scales = new Float32Array(blocks);
  const offsets = new Float32Array(bits === 4 ? blocks : 0);
  const codes = new Uint8Array(blockSize);
  for (let block = 0; block < blocks; block++) {
    const start = block * blockSize;
    const fit = bits === 4 ? betweenExtremes(values, start, blockSize) : aroundZero(values, start, blockSize);
    scales[block] = fit.scale;
    if (bits === 4) offsets[block] = fit.offset;
    for (let i = 0; i < blockSize; i++) codes[i] = codeOf(values[start + i]!, fit, bits);
    if (bits === 8) packed.set(codes, start);
    else for (let i = 0; i < blockSize; i += 2) packed[(start + i) / 2] = codes[i]! | (codes[i + 1]! << 4);
  }
  const result = { kind: 'blocks', rows, cols, bits, blockSize, packed, scales } as const;
  return bits === 4 ? { ...result, offsets } : result;
}

function aroundZero(values: Float32Array, start: number, blockSize: number): BlockFit {
  let largest = 0;
  for (let i = start; i < start + blockSize; i++) largest = Math.max(largest, Math.abs(values[i]!));
  return { scale: Math.fround(largest / 127), offset: 0 };
}

function betweenExtremes(values: Float32Array, start: number, blockSize: number): BlockFit {
  let min = Infinity;
  let max = -Infinity;
  for (let i = start; i < start + blockSize; i++) {
    min = Math.min(min, values[i]!);
    max = Math.max(max, values[i]!);
  }
  const scale = Math.fround((max - min) / 15);
  return { scale, offset: Math.fround(min + 8 * scale) };
}

function codeOf(value: number, { scale, offset }: BlockFit, bits: 4 | 8): number {
  const zero = 2 ** (bits - 1);
  if (scale === 0) return zero;
  return Math.min(2 * zero - 1, Math.max(0, Math.round((value - offset) / scale) + zero));
}
