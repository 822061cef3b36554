/**
 * What stays on the GPU between steps beside the arena: the rotation of every position, numbers that count keys, and
 * where the keys of each sequence lie. Uploaded when first needed, or when it changed.
 */
import { Tensor } from 'onnxruntime-node';
import type { RopeSpec } from '#blend';
import { KEEP_NAMES, keepGraph } from '../../model/graphs/arena/moves.js';
import { consecutive } from '../feeds.js';
import { RotationTable } from '../rotation-table.js';
import type { ArenaRun } from './arena-rows.js';
import { type BusMeter, GpuGraph } from './gpu-graph.js';

/** Keys are listed in multiples of this, so that an answer's list is uploaded once for so many tokens. */
export const KEYS_STEP = 256;

/** Lists of keys that are kept: of so many batches of sequences. */
const KEY_LISTS_MAX = 64;

const POSITIONS_STEP = 1024;

export interface Rotations {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

export class DeviceTables {
  readonly #integers: GpuGraph;
  readonly #floats: GpuGraph;
  readonly #table: RotationTable;
  #rotations: (Rotations & { readonly positions: number }) | undefined;
  readonly #numbers = new Map<number, Tensor>();
  /** In the order of their last use. */
  readonly #keyLists = new Map<string, Tensor>();

  private constructor(
    graphs: { readonly integers: GpuGraph; readonly floats: GpuGraph },
    table: RotationTable,
  ) {
    this.#integers = graphs.integers;
    this.#floats = graphs.floats;
    this.#table = table;
  }

  static async create(rope: RopeSpec, headDim: number, meter: BusMeter): Promise<DeviceTables> {
    const integers = await GpuGraph.open(keepGraph('int32'), meter, true);
    const floats = await GpuGraph.open(keepGraph('float32'), meter, true);
    return new DeviceTables({ integers, floats }, new RotationTable(rope, headDim));
  }

  /** Of the positions `[0, positions)` and maybe more: `[rows, headDim / 2]` each. */
  async rotations(positions: number): Promise<Rotations> {
    if (this.#rotations === undefined || this.#rotations.positions < positions) {
      const rows = Math.ceil(positions / POSITIONS_STEP) * POSITIONS_STEP;
      const { cos, sin } = this.#table.at(consecutive(0, rows));
      const dims = [rows, cos.length / rows];
      const before = this.#rotations;
      this.#rotations = {
        cos: await keep(this.#floats, new Tensor('float32', cos, dims)),
        sin: await keep(this.#floats, new Tensor('float32', sin, dims)),
        positions: rows,
      };
      before?.cos.dispose();
      before?.sin.dispose();
    }
    return this.#rotations;
  }

  /** 0 … count − 1, `[1, count]`. */
  async numbers(count: number): Promise<Tensor> {
    const kept = this.#numbers.get(count);
    if (kept !== undefined) return kept;
    const made = await keep(this.#integers, new Tensor('int32', consecutive(0, count), [1, count]));
    this.#numbers.set(count, made);
    return made;
  }

  /** Where the first `count` keys of each sequence lie, `[runs, count]`; beyond its capacity anything stands there. */
  async keyRows(runs: readonly ArenaRun[], count: number): Promise<Tensor> {
    const name = `${count}:${runs.map(({ version }) => version).join(',')}`;
    const kept = this.#keyLists.get(name);
    this.#keyLists.delete(name);
    const list = kept ?? (await keep(this.#integers, keyList(runs, count)));
    this.#keyLists.set(name, list);
    if (this.#keyLists.size > KEY_LISTS_MAX) {
      const [[oldest, tensor] = []] = this.#keyLists;
      this.#keyLists.delete(oldest!);
      tensor!.dispose();
    }
    return list;
  }
}

function keyList(runs: readonly ArenaRun[], count: number): Tensor {
  const list = new Int32Array(runs.length * count);
  for (const [i, run] of runs.entries()) {
    list.set(run.range(0, Math.min(count, run.capacityTokens)), i * count);
  }
  return new Tensor('int32', list, [runs.length, count]);
}

async function keep(graph: GpuGraph, value: Tensor): Promise<Tensor> {
  const { [KEEP_NAMES.kept]: kept } = await graph.run({ [KEEP_NAMES.value]: value }, {}, {});
  return kept!;
}
