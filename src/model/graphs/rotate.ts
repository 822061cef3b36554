/**
 * The rotation graph: moves keys to other positions (RoPE composes), the engine's counterpart of `rotateKeys`.
 *
 * Rows of one layer, each by its own shift. Products are float32 on cosines and sines that were made in float64;
 * float16 keys are rounded once. A shift of 0 leaves every bit as it is.
 */
import { ELEMENT, GraphBuilder } from '../onnx/graph.js';
import { NAMES, rotationInputs, type TrunkOptions } from './trunk.js';

/** Names of what this graph has beside the rotation of each row. */
export const ROTATE_NAMES = {
  /** Keys of the KV type, `[R, kvHeads, headDim]`. */
  keys: 'keys',
  /** As `keys`. */
  moved: 'moved',
} as const;

export function rotateGraph({ spec, kvType }: Pick<TrunkOptions, 'spec' | 'kvType'>): Uint8Array {
  const g = new GraphBuilder();
  const { kvHeads, headDim } = spec;
  const dims = ['R', kvHeads, headDim];
  g.input(ROTATE_NAMES.keys, kvType, dims);
  rotationInputs(g, spec, 'R');
  const flat = g.op('Reshape', [ROTATE_NAMES.keys, g.int64(1, -1, kvHeads * headDim)]);
  const inputs = [
    kvType === 'float32' ? flat : g.op('Cast', [flat], { to: ELEMENT.float32 }),
    NAMES.rotationRows,
    NAMES.cos,
    NAMES.sin,
  ];
  const moved = g.msOp('RotaryEmbedding', inputs, {
    interleaved: spec.rope.interleaved ? 1 : 0,
    num_heads: kvHeads,
  });
  const kept = kvType === 'float32' ? moved : g.op('Cast', [moved], { to: ELEMENT.float16 });
  g.op('Reshape', [kept, g.int64(-1, kvHeads, headDim)], {}, ROTATE_NAMES.moved);
  g.output(ROTATE_NAMES.moved, kvType, dims);
  return g.toBytes('rotate');
}
