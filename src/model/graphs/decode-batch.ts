/**
 * The batched decode graph: one token each of R sequences, 2 ≤ R ≤ `BATCH_SLOTS`, of any lengths.
 *
 * Embedding, products and norms take all rows at once, so that the weights are read once a step. Attention has the two
 * phases of ChunkAttention (Ye et al., ACL 2024, §3.3). Keys that all R sequences have in common are read once for all
 * of them, in one matrix product a key/value head. Each sequence's own keys are its slot's: as they lie, joined by
 * its new row. The parts are put together by the logarithms of their softmax denominators.
 *
 * The common keys are attended in two halves, the even rows and the odd ones, which is a matter of dimensions only: an
 * odd number of key/value heads leaves one of two threads idle, twice as many do not.
 */
import { GraphBuilder } from '../onnx/graph.js';
import { type Attended, attend } from './decode.js';
import { type LayerRows, NAMES, Trunk, type TrunkOptions } from './trunk.js';

/** Sequences that one run of the graph takes. */
export const BATCH_SLOTS = 8;

/**
 * Slots that are computed or skipped together: a branch of the graph takes as long as many small nodes do. The first
 * ones are always computed; a lone sequence is the decode graph's.
 */
const SLOT_GROUPS = [
  [0, 1],
  [2, 3],
  [4, 5, 6, 7],
] as const;

/** Parts of the common keys, whose number is a multiple of it. */
export const SHARED_PARTS = 2;

export const BATCH_NAMES = {
  /** Whether there are common keys, bool scalar; where not, a row a part is fed, and not read. */
  isShared: 'is_shared',
  /** The row of each slot, int64 `[BATCH_SLOTS]`; of a slot beyond R any, to be computed in vain or not at all. */
  slotRows: 'slot_rows',
  /** P rows of all key/value heads, as `[P ÷ SHARED_PARTS, SHARED_PARTS × kvHeads, headDim]`. */
  shared: (of: 'k' | 'v', layer: number): string => `shared_${of}_${layer}`,
  /** As of one sequence, in two parts, without the common keys. */
  base: (of: 'k' | 'v', layer: number, slot: number): string => `${NAMES.base(of, layer)}_${slot}`,
  past: (of: 'k' | 'v', layer: number, slot: number): string => `${NAMES.past(of, layer)}_${slot}`,
} as const;

export function decodeBatchGraph(options: TrunkOptions): Uint8Array {
  const g = new GraphBuilder();
  const trunk = new Trunk(g, options);
  const { heads, kvHeads, headDim, layers } = options.spec;
  const perHead = heads / kvHeads;
  trunk.inputs('R', 0);
  g.input(BATCH_NAMES.isShared, 'bool', []);
  g.input(BATCH_NAMES.slotRows, 'int64', [BATCH_SLOTS]);
  for (let layer = 0; layer < layers; layer++) {
    for (const of of ['k', 'v'] as const) {
      g.input(BATCH_NAMES.shared(of, layer), options.kvType, ['H', SHARED_PARTS * kvHeads, headDim]);
      for (let slot = 0; slot < BATCH_SLOTS; slot++) {
        g.input(BATCH_NAMES.base(of, layer, slot), options.kvType, [`B${slot}`, kvHeads, headDim]);
        g.input(BATCH_NAMES.past(of, layer, slot), options.kvType, [`P${slot}`, kvHeads, headDim]);
      }
    }
  }
  const rows = g.op('Shape', [NAMES.tokens]);
  const queries = g.op('Mul', [rows, g.int64(perHead)]);
  const areUsed = SLOT_GROUPS.map(([first]) => g.op('Greater', [rows, g.int64(first)]));
  trunk.build(
    ({ q, k, v }, layer) => {
      const split = g.op('Reshape', [q, g.int64(-1, kvHeads, perHead, headDim)]);
      const bySlot = slotInputs(g, { q: split, k, v });
      const groups = SLOT_GROUPS.map((slots, group) => {
        const attendSlots = (branch: GraphBuilder) => attendGroup(branch, trunk, { bySlot, slots, layer });
        return group === 0 ? attendSlots(g) : attendIf(g, trunk, areUsed[group]!, attendSlots, slots);
      });
      const parts = groups.flatMap((group) => group.parts);
      const padded = g.op(
        'Concat',
        groups.map(({ attended }) => attended),
        { axis: 1 },
      );
      const own = g.op('Slice', [padded, g.int64(0), queries, g.int64(1)]);
      const [attended] = g.either(
        BATCH_NAMES.isShared,
        {
          yes: (branch) => [withShared(branch, trunk, { q: split, own, parts, queries }, layer)],
          no: (branch) => [branch.op('Identity', [own])],
        },
        [{ element: 'float32', dims: [kvHeads, 'queries', headDim] }],
      );
      const byHead = g.op('Reshape', [attended!, g.int64(kvHeads, -1, perHead, headDim)]);
      const byRow = g.op('Transpose', [byHead], { perm: [1, 0, 2, 3] });
      return g.op('Reshape', [byRow, g.int64(-1, heads * headDim)]);
    },
    (h) => h,
  );
  return g.toBytes('decode_batch');
}

/** The rows of each slot. @param rows of the sequences: `[R, kvHeads, …]`, `q` with the queries of each head */
function slotInputs(g: GraphBuilder, rows: LayerRows): readonly LayerRows[] {
  const split = (of: 'q' | 'k' | 'v') => {
    const padded = g.op('Gather', [rows[of], BATCH_NAMES.slotRows], { axis: 0 });
    const ones = Array<number>(BATCH_SLOTS).fill(1);
    return g.ops(
      '',
      'Split',
      [padded, g.int64(...ones)],
      ones.map(() => true),
      { axis: 0 },
    );
  };
  const [q, k, v] = [split('q'), split('k'), split('v')];
  return q.map((query, slot) => ({ q: query, k: k[slot]!, v: v[slot]! }));
}

interface AttendedGroup {
  /** `[kvHeads, queries of all slots, headDim]` */
  readonly attended: string;
  readonly parts: readonly Attended[];
}

function attendGroup(
  g: GraphBuilder,
  trunk: Trunk,
  group: { readonly bySlot: readonly LayerRows[]; readonly slots: readonly number[]; readonly layer: number },
): AttendedGroup {
  const { bySlot, slots, layer } = group;
  const parts = slots.map((slot) => {
    const { q, k, v } = bySlot[slot]!;
    const row = { k, v };
    return attend(g, trunk, g.op('Squeeze', [q, g.int64(0)]), (of) => {
      const past = [BATCH_NAMES.base(of, layer, slot), BATCH_NAMES.past(of, layer, slot)];
      return g.op('Concat', [...past, row[of]], { axis: 0 });
    });
  });
  const attended = g.op(
    'Concat',
    parts.map((part) => part.attended),
    { axis: 1 },
  );
  return { attended, parts };
}

/** As `attendSlots`, or for no queries at all. */
function attendIf(
  g: GraphBuilder,
  { spec: { kvHeads, headDim } }: Trunk,
  condition: string,
  attendSlots: (branch: GraphBuilder) => AttendedGroup,
  slots: readonly number[],
): AttendedGroup {
  const widths = [headDim, ...slots.flatMap(() => [1, 1])];
  const [attended, ...others] = g.either(
    condition,
    {
      yes: (branch) => {
        const made = attendSlots(branch);
        return [made.attended, ...made.parts.flatMap(({ scores, weights }) => [scores, weights])];
      },
      no: (branch) => widths.map((width) => branch.op('ConstantOfShape', [branch.int64(kvHeads, 0, width)])),
    },
    widths.map((_, i) => ({ element: 'float32', dims: [kvHeads, `q${i}`, `w${i}`] })),
  );
  const parts = slots.map((_, i) => {
    return { scores: others[2 * i]!, weights: others[2 * i + 1]!, attended: attended! };
  });
  return { attended: attended!, parts };
}

/** What the queries attend to where all rows have keys in common, `[kvHeads, queries, headDim]`. */
function withShared(
  g: GraphBuilder,
  trunk: Trunk,
  rows: {
    readonly q: string;
    readonly own: string;
    readonly parts: readonly Attended[];
    readonly queries: string;
  },
  layer: number,
): string {
  const { kvHeads, headDim } = trunk.spec;
  const headMajor = g.op('Transpose', [rows.q], { perm: [1, 0, 2, 3] });
  const queries = g.op('Reshape', [headMajor, g.int64(kvHeads, -1, headDim)]);
  const repeated = g.op('Concat', Array<string>(SHARED_PARTS).fill(queries), { axis: 0 });
  const shared = attend(g, trunk, repeated, (of) => BATCH_NAMES.shared(of, layer));
  const largest = (of: 'scores' | 'weights') => {
    const reduce = (part: Attended) => g.op('ReduceMax', [part[of]], { axes: [-1], keepdims: 1 });
    const padded = g.op('Concat', rows.parts.map(reduce), { axis: 1 });
    const own = g.op('Slice', [padded, g.int64(0), rows.queries, g.int64(1)]);
    return g.op('Concat', [reduce(shared), own], { axis: 0 });
  };
  // The largest weight is the exponential of the largest score, divided by the denominator of the softmax.
  const denominators = g.op('Sub', [largest('scores'), g.op('Log', [largest('weights')])]);
  const byPart = (values: string, width: number) =>
    g.op('Reshape', [values, g.int64(SHARED_PARTS + 1, kvHeads, -1, width)]);
  const shares = g.op('Softmax', [byPart(denominators, 1)], { axis: 0 });
  const attended = byPart(g.op('Concat', [shared.attended, rows.own], { axis: 0 }), headDim);
  return g.op('ReduceSum', [g.op('Mul', [shares, attended]), g.int64(0)], { keepdims: 0 });
}
