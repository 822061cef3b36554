/**
 * The prefill graph: a tile of R tokens of one sequence behind P tokens whose K and V are given.
 *
 * A row's result does not depend on where tiles are cut (bit for bit), as long as R is even: `GroupQueryAttention`
 * works in blocks of an even number of rows, and a block of a single row would take another kernel. P may be 0.
 *
 * The same session computes scattered rows (blend/plan.ts), whose past is any tokens in order. A mask by position is
 * then added to the operator's causal one, which hides nothing more: a row's own tile stands in order behind the past.
 */
import { GraphBuilder } from '../onnx/graph.js';
import { attend, attentionInputs, lengthInputs } from './attention.js';
import { NAMES, Trunk, type TrunkOptions } from './trunk.js';

export function prefillGraph(options: TrunkOptions): Uint8Array {
  const g = new GraphBuilder();
  const trunk = new Trunk(g, options);
  const width = options.spec.heads * options.spec.headDim;
  trunk.inputs('R');
  g.input(NAMES.logitRows, 'int64', ['N']);
  lengthInputs(g);
  g.input(NAMES.isScattered, 'bool', []);
  g.input(NAMES.mask, 'float32', [1, 1, 'M', 'T']);
  trunk.build(
    (rows, layer) => {
      const inputs = attentionInputs(trunk, rows, layer);
      const [attended] = g.either(
        NAMES.isScattered,
        {
          yes: (branch) => [attend(branch, trunk, inputs, NAMES.mask)],
          no: (branch) => [attend(branch, trunk, inputs)],
        },
        [{ element: 'float32', dims: [1, 'R', width] }],
      );
      return g.op('Reshape', [attended!, g.int64(-1, width)]);
    },
    (h) => g.op('Gather', [h, NAMES.logitRows], { axis: 0 }),
  );
  return g.toBytes('prefill');
}
