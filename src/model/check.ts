/**
 * What must be true of a `ModelSpec`, and which tensors of which shapes it calls for.
 *
 * Every importer checks its file against both: a missing or misshapen tensor is corruption, and a tensor nobody
 * asked for is an architectural detail that we would silently ignore. Knows no file formats.
 */
import { RadixkvError } from '../errors.js';
import type { ModelSpec } from './spec.js';

/** `[rows, cols]` of a matrix, `[n]` of a vector. */
export type TensorShape = readonly [number] | readonly [number, number];

/** Canonical name and shape of every tensor of the model, in layer order. */
export function* requiredTensors(spec: ModelSpec): Generator<readonly [name: string, shape: TensorShape]> {
  const { hidden, vocab } = spec;
  yield ['token_embd.weight', [vocab, hidden]];
  yield ['output_norm.weight', [hidden]];
  if (!spec.tiedEmbeddings) yield ['output.weight', [vocab, hidden]];
  const ofLayer = layerTensors(spec);
  for (let layer = 0; layer < spec.layers; layer++) {
    for (const [name, shape] of ofLayer) yield [`blk.${layer}.${name}`, shape];
  }
}

function layerTensors(spec: ModelSpec): (readonly [name: string, shape: TensorShape])[] {
  const { hidden, headDim, intermediate } = spec;
  const queryWidth = spec.heads * headDim;
  const keyWidth = spec.kvHeads * headDim;
  const tensors: (readonly [string, TensorShape])[] = [
    ['attn_norm.weight', [hidden]],
    ['attn_q.weight', [queryWidth, hidden]],
    ['attn_k.weight', [keyWidth, hidden]],
    ['attn_v.weight', [keyWidth, hidden]],
    ['attn_output.weight', [hidden, queryWidth]],
    ['ffn_norm.weight', [hidden]],
    ['ffn_gate.weight', [intermediate, hidden]],
    ['ffn_up.weight', [intermediate, hidden]],
    ['ffn_down.weight', [hidden, intermediate]],
  ];
  if (spec.qkvBias) {
    tensors.push(['attn_q.bias', [queryWidth]], ['attn_k.bias', [keyWidth]], ['attn_v.bias', [keyWidth]]);
  }
  if (spec.qkNorm) tensors.push(['attn_q_norm.weight', [headDim]], ['attn_k_norm.weight', [headDim]]);
  return tensors;
}

/**
 * Checks the tensors a file has, by canonical name, against what `spec` calls for.
 * @throws RadixkvError `corrupt_model` naming the first tensor that is missing or has another shape,
 * `unsupported_model` naming the first that the architecture does not have.
 */
export function checkTensors(
  spec: ModelSpec,
  found: ReadonlyMap<string, readonly number[]>,
  path: string,
): void {
  const required = new Set<string>();
  // Stops at the first that is missing, so a damaged layer count costs nothing.
  for (const [name, shape] of requiredTensors(spec)) {
    required.add(name);
    const actual = found.get(name);
    if (!actual) throw new RadixkvError('corrupt_model', `${path}: tensor ${name} is missing`);
    if (actual.join() !== shape.join()) {
      const message = `${path}: tensor ${name} has shape [${actual.join(', ')}], expected [${shape.join(', ')}]`;
      throw new RadixkvError('corrupt_model', message);
    }
  }
  for (const name of found.keys()) {
    if (!required.has(name)) {
      const message = `${path}: tensor ${name} is not part of architecture ${spec.architecture} as we build it`;
      throw new RadixkvError('unsupported_model', message);
    }
  }
}

/**
 * Checks the numbers of a spec and returns it.
 * @throws RadixkvError `corrupt_model` naming the number that cannot be
 */
export function checkedSpec(spec: ModelSpec, path: string): ModelSpec {
  const corrupt = (what: string) => new RadixkvError('corrupt_model', `${path}: ${what}`);
  const { layers, hidden, heads, kvHeads, headDim, intermediate, vocab, contextTokens } = spec;
  const counts = { layers, hidden, heads, kvHeads, headDim, intermediate, vocab, contextTokens };
  for (const [name, value] of Object.entries(counts)) {
    if (!Number.isSafeInteger(value) || value < 1) throw corrupt(`${name} is ${value}`);
  }
  if (heads % kvHeads !== 0) throw corrupt(`${heads} heads do not share ${kvHeads} key/value heads evenly`);
  if (headDim % 2 !== 0) throw corrupt(`head width ${headDim} is odd`);
  const { theta, scaling } = spec.rope;
  const { normEpsilon } = spec;
  const factors =
    scaling === undefined ? [] : scaling.type === 'factors' ? scaling.factors : [scaling.factor];
  for (const value of [theta, normEpsilon, ...factors]) {
    if (!(value > 0 && value < Infinity)) throw corrupt(`a rope parameter or the norm epsilon is ${value}`);
  }
  if (scaling?.type === 'factors' && scaling.factors.length !== headDim / 2) {
    throw corrupt(`${scaling.factors.length} rope factors for a head width of ${headDim}`);
  }
  return spec;
}
