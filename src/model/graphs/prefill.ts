/**
 * The prefill graph: a tile of R tokens of one sequence behind P tokens whose K and V are given.
 *
 * Causal attention by `GroupQueryAttention`, whose past is head-major: the kept token-major rows are transposed in
 * the graph. A row's result does not depend on where tiles are cut (bit for bit), as long as R is even: the operator
 * works in blocks of an even number of rows, and a block of a single row would take another kernel. P may be 0.
 */
import { GraphBuilder } from '../onnx/graph.js';
import { NAMES, Trunk, type TrunkOptions } from './trunk.js';

export function prefillGraph(options: TrunkOptions): Uint8Array {
  const g = new GraphBuilder();
  const trunk = new Trunk(g, options);
  const { heads, kvHeads, headDim } = options.spec;
  trunk.inputs('R');
  g.input(NAMES.logitRow, 'int64', [1]);
  g.input(NAMES.lastPosition, 'int32', [1]);
  g.input(NAMES.totalTokens, 'int32', [1]);
  const headMajor = (past: string) => {
    const turned = g.op('Transpose', [trunk.toFloat32(past)], { perm: [1, 0, 2] });
    return g.op('Unsqueeze', [turned, g.int64(0)]);
  };
  const flat = (rows: string) => g.op('Reshape', [trunk.toFloat32(rows), g.int64(1, -1, kvHeads * headDim)]);
  trunk.build(
    ({ q, k, v }, layer) => {
      const past = (['k', 'v'] as const).map((of) => headMajor(NAMES.past(of, layer)));
      const lengths = [NAMES.lastPosition, NAMES.totalTokens];
      const [attended] = g.ops(
        'com.microsoft',
        'GroupQueryAttention',
        [q, flat(k), flat(v), ...past, ...lengths],
        [true, true, true],
        { num_heads: heads, kv_num_heads: kvHeads, scale: { f: 1 / Math.sqrt(headDim) }, do_rotary: 0 },
      );
      return g.op('Reshape', [attended!, g.int64(-1, heads * headDim)]);
    },
    (h) => g.op('Gather', [h, NAMES.logitRow], { axis: 0 }),
  );
  return g.toBytes('prefill');
}
