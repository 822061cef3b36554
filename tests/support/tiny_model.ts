/** A tiny llama's tensors with reproducible values, for the importers' tests. */
import { requiredTensors } from '../../src/model/check.js';
import type { ModelSpec } from '../../src/model/spec.js';

export const TINY_SPEC: ModelSpec = {
  architecture: 'llama',
  layers: 2,
  hidden: 32,
  heads: 4,
  kvHeads: 2,
  headDim: 8,
  intermediate: 64,
  vocab: 20,
  contextTokens: 64,
  normEpsilon: 2 ** -17,
  rope: { theta: 10_000, interleaved: true },
  qkvBias: false,
  qkNorm: false,
  tiedEmbeddings: true,
};

/** Values in (-1, 1) from a linear congruence; `seed` tells tensors apart. */
export function sampleValues(length: number, seed: number): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

export interface TinyTensor {
  readonly name: string;
  /** Row-major, outermost dimension first. */
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** Every tensor the spec calls for, in float32. */
export const tinyTensors = (spec: ModelSpec): TinyTensor[] =>
  [...requiredTensors(spec)].map(([name, shape], i) => {
    const elements = shape.reduce((product, size) => product * size, 1);
    return { name, shape, values: sampleValues(elements, i + 1) };
  });
