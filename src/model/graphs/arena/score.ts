/**
 * The score graph of a GPU: what attention a question gives to the rows before it (graphs/score.ts). The question's
 * own K and V stand behind those of the arena, and are not kept.
 */
import { GraphBuilder } from '../../onnx/graph.js';
import { SCORE_NAMES } from '../score.js';
import { Trunk, type TrunkOptions } from '../trunk.js';
import { attendRows, attentionInputs, hidingMask } from './attention.js';
import { Arena } from './names.js';
import { arenaTokenInputs } from './step.js';

/** Arena rows of the keys before the question, int64 `[P]`. */
export const SCORED_ROWS = 'scored_rows';

export function arenaScoreGraph(options: TrunkOptions): Uint8Array {
  const g = new GraphBuilder();
  const trunk = new Trunk(g, options);
  const arena = new Arena(g, options.spec, options.kvType);
  arenaTokenInputs(g, options);
  attentionInputs(g);
  g.input(SCORED_ROWS, 'int64', ['PAST']);
  const mask = hidingMask(g);
  const masses: string[] = [];
  trunk.layers(({ q, k, v }, layer) => {
    const rows = { k, v };
    const read = (of: 'k' | 'v') => {
      const section = arena.input(2 * layer + (of === 'k' ? 0 : 1));
      const past = g.op('Gather', [section, SCORED_ROWS], { axis: 0 });
      return g.op('Concat', [past, g.op('Reshape', [rows[of], g.int64(-1, arena.width)])], { axis: 0 });
    };
    const { attended, weights } = attendRows(trunk, { q, k: read('k'), v: read('v') }, mask);
    masses.push(g.op('ReduceSum', [weights, g.int64(0, 1, 2)], { keepdims: 0 }));
    return attended;
  });
  const [first, ...others] = masses;
  g.op('Identity', [others.reduce((sum, mass) => g.op('Add', [sum, mass]), first!)], {}, SCORE_NAMES.mass);
  g.output(SCORE_NAMES.mass, 'float32', ['C']);
  return g.toBytes('score');
}
