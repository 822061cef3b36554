/**
 * The KV arena of a GPU as its graphs see it: one matrix of rows for K and one for V of each layer, `[rows, kvHeads ×
 * headDim]`, that all runs share. A graph reads rows by number, and where it writes any, its output is the buffer of
 * its input: the engine binds both to the same memory, so that nothing but the written rows is touched.
 */
import type { GraphBuilder } from '../../onnx/graph.js';
import type { ModelSpec } from '../../spec.js';

/** What K and V are kept as on the device: float16 where its shaders have it. */
export type ArenaType = 'float16' | 'float32';

export const ARENA_NAMES = {
  /** K of layer l is section 2l, V section 2l + 1. */
  section: (section: number): string => `arena_${section}`,
  /** The same memory with rows written. */
  written: (section: number): string => `arena_${section}_written`,
} as const;

export class Arena {
  readonly g: GraphBuilder;
  readonly type: ArenaType;
  /** Elements of a row. */
  readonly width: number;

  constructor(g: GraphBuilder, spec: Pick<ModelSpec, 'kvHeads' | 'headDim'>, type: ArenaType) {
    this.g = g;
    this.type = type;
    this.width = spec.kvHeads * spec.headDim;
  }

  /** Declares a section. */
  input(section: number): string {
    return this.g.input(ARENA_NAMES.section(section), this.type, ['T', this.width]);
  }

  /**
   * Writes rows to a section. What reads it later must read the result.
   *
   * @param at int64 `[N, 1]`, no number twice
   * @param rows `[N, width]`
   */
  write(section: number, at: string, rows: string): string {
    const written = this.g.op(
      'ScatterND',
      [ARENA_NAMES.section(section), at, rows],
      {},
      ARENA_NAMES.written(section),
    );
    this.g.output(written, this.type, ['T', this.width]);
    return written;
  }
}
