/**
 * Causal attention of a tile of rows by `GroupQueryAttention`, whose past is head-major: the kept token-major rows are
 * transposed in the graph.
 */
import type { GraphBuilder } from '../onnx/graph.js';
import { type LayerRows, NAMES, type Trunk } from './trunk.js';

/** Declares the lengths that the operator reads. */
export function lengthInputs(g: GraphBuilder): void {
  g.input(NAMES.lastPosition, 'int32', [1]);
  g.input(NAMES.totalTokens, 'int32', [1]);
}

/** The operator's inputs: rows, past and lengths. */
export function attentionInputs(trunk: Trunk, { q, k, v }: LayerRows, layer: number): readonly string[] {
  const { g, spec } = trunk;
  const flat = (rows: string) =>
    g.op('Reshape', [trunk.toFloat32(rows), g.int64(1, -1, spec.kvHeads * spec.headDim)]);
  const headMajor = (past: string) => {
    const turned = g.op('Transpose', [trunk.toFloat32(past)], { perm: [1, 0, 2] });
    return g.op('Unsqueeze', [turned, g.int64(0)]);
  };
  const past = (['k', 'v'] as const).map((of) => headMajor(trunk.withPast(of, layer)));
  return [q, flat(k), flat(v), ...past, NAMES.lastPosition, NAMES.totalTokens];
}

/**
 * What the rows attended to, `[1, R, heads × headDim]`.
 * @param g the graph of `trunk` or a branch of it
 * @param mask added to the scores, `[1, 1, R, P + R]`; the causal mask holds besides
 */
export function attend(g: GraphBuilder, trunk: Trunk, inputs: readonly string[], mask?: string): string {
  const { heads, kvHeads, headDim } = trunk.spec;
  // Between lengths and mask: tables for a rotation, which is done already.
  const masked = mask === undefined ? [] : ['', '', '', mask];
  const [attended] = g.ops(
    'com.microsoft',
    'GroupQueryAttention',
    [...inputs, ...masked],
    [true, true, true],
    { num_heads: heads, kv_num_heads: kvHeads, scale: { f: 1 / Math.sqrt(headDim) }, do_rotary: 0 },
  );
  return attended!;
}
