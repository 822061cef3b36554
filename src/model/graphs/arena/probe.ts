/**
 * The probe graph of a GPU: how far rows of the second layer in the arena are from fresh ones (graphs/probe.ts). Writes
 * the rows of the first layer.
 */
import { GraphBuilder } from '../../onnx/graph.js';
import { PROBE_NAMES } from '../probe.js';
import { Trunk, type TrunkOptions } from '../trunk.js';
import { attendRows, attentionInputs, hidingMask } from './attention.js';
import { ARENA_NAMES, Arena } from './names.js';
import { arenaTokenInputs, STEP_NAMES } from './step.js';

export const ARENA_PROBE_NAMES = {
  /** Arena rows of the keys, those of the tile last, int64 `[C]`. */
  keyRows: 'probe_key_rows',
  /** Arena rows of the tile, int64 `[S]`. */
  cachedRows: 'cached_rows',
} as const;

const PROBED_LAYERS = 2;

export function arenaProbeGraph(options: TrunkOptions): Uint8Array {
  const g = new GraphBuilder();
  const trunk = new Trunk(g, options);
  const arena = new Arena(g, options.spec, options.kvType);
  arenaTokenInputs(g, options);
  attentionInputs(g);
  g.input(STEP_NAMES.writeRows, 'int64', ['S', 1]);
  g.input(ARENA_PROBE_NAMES.keyRows, 'int64', ['C']);
  g.input(ARENA_PROBE_NAMES.cachedRows, 'int64', ['S']);
  for (let section = 0; section < 2 * PROBED_LAYERS; section++) arena.input(section);
  const mask = hidingMask(g);
  trunk.layers(({ q, k, v }, layer) => {
    const rows = {
      k: g.op('Reshape', [k, g.int64(-1, arena.width)]),
      v: g.op('Reshape', [v, g.int64(-1, arena.width)]),
    };
    if (layer === 0) {
      const read = (of: 'k' | 'v', section: number) => {
        const written = arena.write(section, STEP_NAMES.writeRows, rows[of]);
        return g.op('Gather', [written, ARENA_PROBE_NAMES.keyRows], { axis: 0 });
      };
      return attendRows(trunk, { q, k: read('k', 0), v: read('v', 1) }, mask).attended;
    }
    const fresh = (of: 'k' | 'v') => trunk.toFloat32(rows[of]);
    const cached = (section: number) =>
      trunk.toFloat32(
        g.op('Gather', [ARENA_NAMES.section(section), ARENA_PROBE_NAMES.cachedRows], { axis: 0 }),
      );
    const norm = (x: string) =>
      g.op('Sqrt', [g.op('ReduceSum', [g.op('Mul', [x, x]), g.int64(1)], { keepdims: 0 })]);
    const parts = [
      norm(g.op('Sub', [fresh('k'), cached(2)])),
      norm(g.op('Sub', [fresh('v'), cached(3)])),
      norm(fresh('k')),
      norm(fresh('v')),
    ];
    const stacked = parts.map((part) => g.op('Unsqueeze', [part, g.int64(0)]));
    g.op('Concat', stacked, { axis: 0 }, PROBE_NAMES.deviations);
    return g.op('Reshape', [q, g.int64(-1, options.spec.heads * options.spec.headDim)]);
  }, PROBED_LAYERS);
  g.output(PROBE_NAMES.deviations, 'float32', [4, 'S']);
  return g.toBytes('probe');
}
