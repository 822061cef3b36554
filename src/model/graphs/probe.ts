/**
 * The probe graph: how far cached K and V of the second layer are from freshly computed ones, for CacheBlend's own
 * selection (HKVD).
 *
 * A tile of R tokens behind P tokens whose K and V of the first layer are given; those depend on token and position
 * alone, so cached ones are right. Computes the first layer, and of the second only the products that K and V need.
 * Source: CacheBlend (Yao et al., EuroSys 2025) §4.3, with one check.
 */
import { GraphBuilder } from '../onnx/graph.js';
import { attend, attentionInputs, lengthInputs } from './attention.js';
import { Trunk, type TrunkOptions } from './trunk.js';

export const PROBE_NAMES = {
  /** Cached rows of the second layer at the tile's tokens, `[R, kvHeads, headDim]` of the KV type. */
  cached: (of: 'k' | 'v'): string => `cached_${of}`,
  /** Distances of K, distances of V, norms of fresh K, norms of fresh V: float32 `[4, R]`. */
  deviations: 'deviations',
  /** K and V of the first layer, `[2 · R, kvHeads, headDim]`. */
  firstLayer: 'first_layer',
} as const;

const PROBED_LAYERS = 2;

export function probeGraph(options: TrunkOptions): Uint8Array {
  const g = new GraphBuilder();
  const trunk = new Trunk(g, options);
  const { heads, kvHeads, headDim } = options.spec;
  trunk.inputs('R', PROBED_LAYERS - 1);
  lengthInputs(g);
  for (const of of ['k', 'v'] as const) {
    g.input(PROBE_NAMES.cached(of), options.kvType, ['R', kvHeads, headDim]);
  }
  trunk.layers((rows, layer) => {
    const flat = (attended: string) => g.op('Reshape', [attended, g.int64(-1, heads * headDim)]);
    if (layer === 0) {
      g.op('Concat', [rows.k, rows.v], { axis: 0 }, PROBE_NAMES.firstLayer);
      return flat(attend(g, trunk, attentionInputs(trunk, rows, layer)));
    }
    const fresh = (of: 'k' | 'v') => trunk.toFloat32(rows[of]);
    const norm = (x: string) => g.op('ReduceL2', [x], { axes: [1, 2], keepdims: 0 });
    const distance = (of: 'k' | 'v') =>
      norm(g.op('Sub', [fresh(of), trunk.toFloat32(PROBE_NAMES.cached(of))]));
    const parts = [distance('k'), distance('v'), norm(fresh('k')), norm(fresh('v'))];
    const stacked = parts.map((part) => g.op('Unsqueeze', [part, g.int64(0)]));
    g.op('Concat', stacked, { axis: 0 }, PROBE_NAMES.deviations);
    return flat(rows.q);
  }, PROBED_LAYERS);
  g.output(PROBE_NAMES.deviations, 'float32', [4, 'R']);
  g.output(PROBE_NAMES.firstLayer, options.kvType, ['2R', kvHeads, headDim]);
  return g.toBytes('probe');
}
