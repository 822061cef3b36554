/**
 * The decode graph: one token of one sequence behind P ≥ 1 tokens whose K and V are given.
 *
 * The attention reads the kept rows as they lie (token-major, a strided batch over the key/value heads), without a
 * copy in another layout. The new row is joined to them in the KV type, before the conversion to float32: with
 * float16 rows that halves the memory traffic, which is what a long context costs.
 */
import { GraphBuilder } from '../onnx/graph.js';
import { type LayerRows, NAMES, Trunk, type TrunkOptions } from './trunk.js';

export function decodeGraph(options: TrunkOptions): Uint8Array {
  const g = new GraphBuilder();
  const trunk = new Trunk(g, options);
  const { heads, kvHeads, headDim } = options.spec;
  trunk.inputs(1);
  trunk.build(
    ({ q, k, v }, layer) => {
      const grouped = g.op('Reshape', [q, g.int64(kvHeads, heads / kvHeads, headDim)]);
      const past = { k: NAMES.past('k', layer), v: NAMES.past('v', layer) };
      const { attended } = attendOne(g, trunk, { q: grouped, k, v }, past);
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
 * Attention of one row over its past and itself.
 *
 * @param g the graph of `trunk` or a branch of it
 * @param row.q `[kvHeads, heads ÷ kvHeads, headDim]`
 * @param row.k and `v`: `[1, kvHeads, headDim]` of the KV type
 * @param past names of `[S, kvHeads, headDim]`
 */
export function attendOne(
  g: GraphBuilder,
  trunk: Trunk,
  row: LayerRows,
  past: { readonly k: string; readonly v: string },
): Attended {
  const joined = (of: 'k' | 'v') => trunk.toFloat32(g.op('Concat', [past[of], row[of]], { axis: 0 }), g);
  return attend(g, trunk, row.q, joined);
}

/** @param keysOrValues makes `[keys, heads, headDim]`, float32, for as many heads as `q` has */
export function attend(
  g: GraphBuilder,
  { spec: { headDim } }: Trunk,
  q: string,
  keysOrValues: (of: 'k' | 'v') => string,
): Attended {
  const attributes = { transB: 1, transBatchB: 1, alpha: { f: 1 / Math.sqrt(headDim) } };
  const scores = g.msOp('FusedMatMul', [q, keysOrValues('k')], attributes);
  const weights = g.op('Softmax', [scores], { axis: -1 });
  const attended = g.msOp('FusedMatMul', [weights, keysOrValues('v')], { transBatchB: 1 });
  return { scores, weights, attended };
}
