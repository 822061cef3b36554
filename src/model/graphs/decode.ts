/**
 * The decode graph: one token of one sequence behind P ≥ 1 tokens whose K and V are given.
 *
 * The attention reads the kept rows as they lie (token-major, a strided batch over the key/value heads), without a
 * copy in another layout. The new row is joined to them in the KV type, before the conversion to float32: with
 * float16 rows that halves the memory traffic, which is what a long context costs.
 */
import { GraphBuilder } from '../onnx/graph.js';
import { Trunk, type TrunkOptions } from './trunk.js';

export function decodeGraph(options: TrunkOptions): Uint8Array {
  const g = new GraphBuilder();
  const trunk = new Trunk(g, options);
  const { heads, kvHeads, headDim } = options.spec;
  trunk.inputs(1);
  trunk.build(
    ({ q, k, v }, layer) => {
      const grouped = g.op('Reshape', [q, g.int64(kvHeads, heads / kvHeads, headDim)]);
      const rows = { k, v };
      const { attended } = attend(g, trunk, grouped, (of) => trunk.withPast(of, layer, rows[of]));
      return g.op('Reshape', [attended, g.int64(1, heads * headDim)]);
    },
    (h) => h,
  );
  return g.toBytes('decode');
}

/** Attention of the queries that share each key/value head. */
export interface Attended {
  /** `[kvHeads, queries, keys]` */
  readonly scores: string;
  /** Their softmax. */
  readonly weights: string;
  /** `[kvHeads, queries, headDim]` */
  readonly attended: string;
}

/**
 * Attention of queries over keys that all of them see.
 *
 * @param g the graph of `trunk` or a branch of it
 * @param q `[heads, queries, headDim]`
 * @param rowsOf names of keys and values of the KV type, for as many heads: `[keys, heads, headDim]`
 */
export function attend(
  g: GraphBuilder,
  trunk: Trunk,
  q: string,
  rowsOf: (of: 'k' | 'v') => string,
): Attended {
  const attributes = { transB: 1, transBatchB: 1, alpha: { f: 1 / Math.sqrt(trunk.spec.headDim) } };
  const scores = g.msOp('FusedMatMul', [q, trunk.toFloat32(rowsOf('k'), g)], attributes);
  const weights = g.op('Softmax', [scores], { axis: -1 });
  const values = trunk.toFloat32(rowsOf('v'), g);
  const attended = g.msOp('FusedMatMul', [weights, values], { transBatchB: 1 });
  return { scores, weights, attended };
}
