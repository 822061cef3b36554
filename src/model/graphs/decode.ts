/**
 * The decode graph: one token of one sequence behind P ≥ 1 tokens whose K and V are given.
 *
 * The attention reads the kept rows as they lie (token-major, a strided batch over the key/value heads), without a
 * copy in another layout. The new row is joined to them in the KV type, before the conversion to float32: with
 * float16 rows that halves the memory traffic, which is what a long context costs.
 */
import { GraphBuilder } from '../onnx/graph.js';
import { NAMES, Trunk, type TrunkOptions } from './trunk.js';

export function decodeGraph(options: TrunkOptions): Uint8Array {
  const g = new GraphBuilder();
  const trunk = new Trunk(g, options);
  const { heads, kvHeads, headDim } = options.spec;
  trunk.inputs(1);
  const scores = { transB: 1, transBatchB: 1, alpha: { f: 1 / Math.sqrt(headDim) } };
  trunk.build(
    ({ q, k, v }, layer) => {
      const grouped = g.op('Reshape', [q, g.int64(kvHeads, heads / kvHeads, headDim)]);
      const appended = (of: 'k' | 'v', row: string) =>
        trunk.toFloat32(g.op('Concat', [NAMES.past(of, layer), row], { axis: 0 }));
      const weights = g.op('Softmax', [g.msOp('FusedMatMul', [grouped, appended('k', k)], scores)], {
        axis: -1,
      });
      const attended = g.msOp('FusedMatMul', [weights, appended('v', v)], { transBatchB: 1 });
      return g.op('Reshape', [attended, g.int64(1, heads * headDim)]);
    },
    (h) => h,
  );
  return g.toBytes('decode');
}
