/**
 * Attention over rows of the arena, spelled out in operators that run on the GPU: B sequences of S new rows each, over
 * C keys each. A row sees the keys whose position is not behind its own.
 *
 * Shapes come in as inputs that stay on the CPU, so that no shape is computed on the device.
 */
import { ELEMENT, type GraphBuilder } from '../../onnx/graph.js';
import type { Trunk } from '../trunk.js';

/** Added to the score of a key that a row does not see: its weight is 0 exactly. */
const HIDDEN = -1e9;

export const ATTENTION_NAMES = {
  /** Positions of the new rows, int32 `[B, 1, S, 1]`. */
  rowPositions: 'row_positions',
  /** Positions of the keys, int32 `[1, C]`. */
  keyPositions: 'key_positions',
  /** Each int64: B, S, kvHeads, heads ÷ kvHeads, headDim; and with the middle ones joined. */
  split: 'split',
  grouped: 'grouped',
  ungrouped: 'ungrouped',
  /** B, C, kvHeads, headDim. */
  keySplit: 'key_split',
  /** B, heads, S, C. */
  byHead: 'by_head',
  /** B, kvHeads, S × heads ÷ kvHeads, C. */
  byGroup: 'by_group',
} as const;

/** Names of the shapes; `shapesOf` in the engine gives their values. */
export const SHAPE_INPUTS = ['split', 'grouped', 'ungrouped', 'keySplit', 'byHead', 'byGroup'] as const;

/** Declares positions and shapes. */
export function attentionInputs(g: GraphBuilder): void {
  g.input(ATTENTION_NAMES.rowPositions, 'int32', ['B', 1, 'S', 1]);
  g.input(ATTENTION_NAMES.keyPositions, 'int32', [1, 'C']);
  const ranks = { split: 5, grouped: 4, ungrouped: 5, keySplit: 4, byHead: 4, byGroup: 4 };
  for (const name of SHAPE_INPUTS) g.input(ATTENTION_NAMES[name], 'int64', [ranks[name]]);
}

/** What is added to scores, `[B, 1, S, C]`: the same in all layers. */
export function hidingMask(g: GraphBuilder): string {
  const keys = g.op('Unsqueeze', [ATTENTION_NAMES.keyPositions, g.int64(1, 2)]);
  const hidden = g.op('Greater', [keys, ATTENTION_NAMES.rowPositions]);
  return g.op('Mul', [g.op('Cast', [hidden], { to: ELEMENT.float32 }), g.float32(HIDDEN)]);
}

/**
 * @param rows.q `[1, B × S, heads × headDim]`
 * @param rows.k and `v`: keys and values of the KV type, `[B × C, kvHeads × headDim]`
 * @returns what the rows attended to, `[B × S, heads × headDim]`, and the weights, `[B, heads, S, C]`
 */
export function attendRows(
  trunk: Trunk,
  rows: { readonly q: string; readonly k: string; readonly v: string },
  mask: string,
): { readonly attended: string; readonly weights: string } {
  const { g, spec } = trunk;
  const names = ATTENTION_NAMES;
  const scaled = g.op('Mul', [rows.q, g.float32(1 / Math.sqrt(spec.headDim))]);
  const q = g.op('Reshape', [
    g.op('Transpose', [g.op('Reshape', [scaled, names.split])], { perm: [0, 2, 3, 1, 4] }),
    names.grouped,
  ]);
  const headMajor = (of: 'k' | 'v', perm: readonly number[]) =>
    g.op('Transpose', [g.op('Reshape', [trunk.toFloat32(rows[of]), names.keySplit])], { perm });
  const scores = g.op('MatMul', [q, headMajor('k', [0, 2, 3, 1])]);
  const masked = g.op('Add', [g.op('Reshape', [scores, names.byHead]), mask]);
  const weights = g.op('Softmax', [masked], { axis: -1 });
  const values = headMajor('v', [0, 2, 1, 3]);
  const attended = g.op('MatMul', [g.op('Reshape', [weights, names.byGroup]), values]);
  const rowMajor = g.op('Transpose', [g.op('Reshape', [attended, names.ungrouped])], {
    perm: [0, 3, 1, 2, 4],
  });
  return { attended: g.op('Reshape', [rowMajor, g.int64(-1, spec.heads * spec.headDim)]), weights };
}
