/**
 * The score graph: how much a question attends to each token before it, summed over its rows, all heads and layers.
 *
 * R rows of one sequence behind P tokens whose K and V are given, all of which the rows see. No logits and no fresh
 * rows come out: it only chooses what is computed again (the `attention` measurement of `#blend`). The attention is
 * spelled out as in the decode graph, since what is wanted lies between its two products.
 */
import { GraphBuilder } from '../onnx/graph.js';
import { Trunk, type TrunkOptions } from './trunk.js';

/** Names of what this graph has beside the trunk's. */
export const SCORE_NAMES = {
  /** Added to the scores, float32 `[R, P + R]`. */
  mask: 'mask',
  /** Softmax mass of each key, float32 `[P + R]`. */
  mass: 'mass',
} as const;

export function scoreGraph(options: TrunkOptions): Uint8Array {
  const g = new GraphBuilder();
  const trunk = new Trunk(g, options);
  const { heads, kvHeads, headDim } = options.spec;
  const group = heads / kvHeads;
  trunk.inputs('R');
  g.input(SCORE_NAMES.mask, 'float32', ['R', 'T']);
  const scores = { transB: 1, transBatchB: 1, alpha: { f: 1 / Math.sqrt(headDim) } };
  const masses: string[] = [];
  trunk.layers(({ q, k, v }, layer) => {
    const appended = (of: 'k' | 'v', row: string) => trunk.toFloat32(trunk.withPast(of, layer, row));
    // `[kvHeads, group · R, headDim]`: the heads that share keys are rows of one product.
    const split = g.op('Reshape', [q, g.int64(-1, kvHeads, group, headDim)]);
    const grouped = g.op('Reshape', [
      g.op('Transpose', [split], { perm: [1, 2, 0, 3] }),
      g.int64(kvHeads, -1, headDim),
    ]);
    const products = g.msOp('FusedMatMul', [grouped, appended('k', k)], scores);
    const byHead = g.op('Reshape', [products, g.op('Concat', [g.int64(heads, -1), keys(g)], { axis: 0 })]);
    const weights = g.op('Softmax', [g.op('Add', [byHead, SCORE_NAMES.mask])], { axis: -1 });
    masses.push(g.op('ReduceSum', [weights, g.int64(0, 1)], { keepdims: 0 }));
    const joined = g.op('Reshape', [weights, g.op('Concat', [g.int64(kvHeads, -1), keys(g)], { axis: 0 })]);
    const attended = g.msOp('FusedMatMul', [joined, appended('v', v)], { transBatchB: 1 });
    const rows = g.op('Transpose', [g.op('Reshape', [attended, g.int64(kvHeads, group, -1, headDim)])], {
      perm: [2, 0, 1, 3],
    });
    return g.op('Reshape', [rows, g.int64(-1, heads * headDim)]);
  });
  g.op('Sum', masses, {}, SCORE_NAMES.mass);
  g.output(SCORE_NAMES.mass, 'float32', ['T']);
  return g.toBytes('score');
}

/** How many keys there are, `[1]`. */
function keys(g: GraphBuilder): string {
  return g.op('Shape', [SCORE_NAMES.mask], { start: 1, end: 2 });
}
