/**
 * The step graph of a GPU: S new rows of each of B sequences, whose K and V are written to the arena, and logits of
 * the rows that are wanted. It prefills (B = 1), decodes (S = 1), and computes scattered rows: positions say who sees
 * whom.
 *
 * The keys of a sequence are rows of the arena in any places. What stands behind its last key in the list only fills
 * it up to C; it is read as the first key, so that no memory is read that the sequence does not own.
 */
import { GraphBuilder } from '../../onnx/graph.js';
import { NAMES, Trunk, type TrunkOptions } from '../trunk.js';
import { attendRows, attentionInputs, hidingMask } from './attention.js';
import { Arena } from './names.js';

export const STEP_NAMES = {
  /** Where the new rows are written, int64 `[B × S, 1]`. */
  writeRows: 'write_rows',
  /** Arena rows of the keys, int32 `[B, C]`. */
  keyRows: 'key_rows',
  /** 0 … C − 1, int32 `[1, C]`. */
  keyNumbers: 'key_numbers',
  /** The last key of each sequence, int32 `[B, 1]`. */
  lastKey: 'last_key',
} as const;

export function stepGraph(options: TrunkOptions): Uint8Array {
  const g = new GraphBuilder();
  const trunk = new Trunk(g, options);
  const arena = new Arena(g, options.spec, options.kvType);
  arenaTokenInputs(g, options);
  attentionInputs(g);
  g.input(NAMES.logitRows, 'int64', ['N']);
  g.input(STEP_NAMES.writeRows, 'int64', ['BS', 1]);
  g.input(STEP_NAMES.keyRows, 'int32', ['B', 'C']);
  g.input(STEP_NAMES.keyNumbers, 'int32', [1, 'C']);
  g.input(STEP_NAMES.lastKey, 'int32', ['B', 1]);
  for (let section = 0; section < 2 * options.spec.layers; section++) arena.input(section);
  const first = g.op('Gather', [STEP_NAMES.keyRows, g.int64(0)], { axis: 1 });
  const isFilling = g.op('Greater', [STEP_NAMES.keyNumbers, STEP_NAMES.lastKey]);
  const keyRows = g.op('Reshape', [g.op('Where', [isFilling, first, STEP_NAMES.keyRows]), g.int64(-1)]);
  const mask = hidingMask(g);
  const h = trunk.layers(({ q, k, v }, layer) => {
    const rows = { k, v };
    const read = (of: 'k' | 'v') => {
      const section = 2 * layer + (of === 'k' ? 0 : 1);
      const flat = g.op('Reshape', [rows[of], g.int64(-1, arena.width)]);
      return g.op('Gather', [arena.write(section, STEP_NAMES.writeRows, flat), keyRows], { axis: 0 });
    };
    return attendRows(trunk, { q, k: read('k'), v: read('v') }, mask).attended;
  });
  trunk.head(g.op('Gather', [h, NAMES.logitRows], { axis: 0 }));
  return g.toBytes('step');
}

/** Declares tokens, and tables of the rotation of each position that stay on the device. */
export function arenaTokenInputs(g: GraphBuilder, { spec }: Pick<TrunkOptions, 'spec'>): void {
  g.input(NAMES.tokens, 'int64', ['BS']);
  g.input(NAMES.cos, 'float32', ['P', spec.headDim / 2]);
  g.input(NAMES.sin, 'float32', ['P', spec.headDim / 2]);
  g.input(NAMES.rotationRows, 'int64', [1, 'BS']);
}
