/**
 * What moves rows of the arena without computing them: within it, to it from the host, from it to the host, and keys
 * to other positions. These graphs have no weights, and are made when an engine starts.
 */
import { ELEMENT, GraphBuilder } from '../../onnx/graph.js';
import type { ModelSpec } from '../../spec.js';
import { NAMES } from '../trunk.js';
import { ARENA_NAMES, Arena, type ArenaType } from './names.js';

export const MOVE_NAMES = {
  /** Rows that are read, int64 `[N]`. */
  from: 'from',
  /** Rows that are written, int64 `[N, 1]`. */
  to: 'to',
  /** Chunks as they lie in host memory, `[chunks, sections, rows, width]`. */
  chunks: 'chunks',
  /** int64 of four: how many chunks, 1, rows of a chunk, width. */
  chunkShape: 'chunk_shape',
} as const;

export const EMPTY_NAMES = {
  /** One zero of the KV type. */
  zero: 'zero',
  /** int64 of two: rows, width. */
  shape: 'shape',
} as const;

export interface ArenaShape {
  readonly spec: Pick<ModelSpec, 'layers' | 'kvHeads' | 'headDim' | 'rope'>;
  readonly type: ArenaType;
}

/** A new arena, of zeros: all sections, each `[rows, width]`. */
export function emptyGraph({ spec, type }: ArenaShape): Uint8Array {
  const g = new GraphBuilder();
  g.input(EMPTY_NAMES.zero, type, [1]);
  g.input(EMPTY_NAMES.shape, 'int64', [2]);
  const width = spec.kvHeads * spec.headDim;
  for (let section = 0; section < 2 * spec.layers; section++) {
    g.op('Expand', [EMPTY_NAMES.zero, EMPTY_NAMES.shape], {}, ARENA_NAMES.section(section));
    g.output(ARENA_NAMES.section(section), type, ['T', width]);
  }
  return g.toBytes('empty');
}

/** Copies rows to rows, in all sections. */
export function copyGraph({ spec, type }: ArenaShape): Uint8Array {
  const { g, arena, sections } = begin(spec, type);
  g.input(MOVE_NAMES.from, 'int64', ['N']);
  g.input(MOVE_NAMES.to, 'int64', ['N', 1]);
  for (const section of sections) {
    arena.write(section, MOVE_NAMES.to, g.op('Gather', [arena.input(section), MOVE_NAMES.from], { axis: 0 }));
  }
  return g.toBytes('copy');
}

/** Host → arena. */
export function placeGraph({ spec, type }: ArenaShape): Uint8Array {
  const { g, arena, sections } = begin(spec, type);
  g.input(MOVE_NAMES.chunks, type, ['M', sections.length, 'R', arena.width]);
  g.input(MOVE_NAMES.to, 'int64', ['N', 1]);
  for (const section of sections) {
    arena.input(section);
    const part = g.op('Slice', [MOVE_NAMES.chunks, g.int64(section), g.int64(section + 1), g.int64(1)]);
    arena.write(section, MOVE_NAMES.to, g.op('Reshape', [part, g.int64(-1, arena.width)]));
  }
  return g.toBytes('place');
}

/** Arena → host. */
export function fetchGraph({ spec, type }: ArenaShape): Uint8Array {
  const { g, arena, sections } = begin(spec, type);
  g.input(MOVE_NAMES.from, 'int64', ['N']);
  g.input(MOVE_NAMES.chunkShape, 'int64', [4]);
  const parts = sections.map((section) => {
    const rows = g.op('Gather', [arena.input(section), MOVE_NAMES.from], { axis: 0 });
    return g.op('Reshape', [rows, MOVE_NAMES.chunkShape]);
  });
  g.op('Concat', parts, { axis: 1 }, MOVE_NAMES.chunks);
  g.output(MOVE_NAMES.chunks, type, ['M', sections.length, 'R', arena.width]);
  return g.toBytes('fetch');
}

/** Moves keys of all layers to other positions, in their rows (graphs/rotate.ts). */
export function turnGraph({ spec, type }: ArenaShape): Uint8Array {
  const { g, arena } = begin(spec, type);
  g.input(MOVE_NAMES.from, 'int64', ['N']);
  g.input(MOVE_NAMES.to, 'int64', ['N', 1]);
  g.input(NAMES.cos, 'float32', ['N', spec.headDim / 2]);
  g.input(NAMES.sin, 'float32', ['N', spec.headDim / 2]);
  g.input(NAMES.rotationRows, 'int64', [1, 'N']);
  for (let layer = 0; layer < spec.layers; layer++) {
    const keys = g.op('Gather', [arena.input(2 * layer), MOVE_NAMES.from], { axis: 0 });
    const flat = g.op('Unsqueeze', [keys, g.int64(0)]);
    const moved = g.msOp(
      'RotaryEmbedding',
      [
        type === 'float32' ? flat : g.op('Cast', [flat], { to: ELEMENT.float32 }),
        NAMES.rotationRows,
        NAMES.cos,
        NAMES.sin,
      ],
      { interleaved: spec.rope.interleaved ? 1 : 0, num_heads: spec.kvHeads },
    );
    const kept = type === 'float32' ? moved : g.op('Cast', [moved], { to: ELEMENT.float16 });
    arena.write(2 * layer, MOVE_NAMES.to, g.op('Reshape', [kept, g.int64(-1, arena.width)]));
  }
  return g.toBytes('turn');
}

export const KEEP_NAMES = { value: 'value', kept: 'kept' } as const;

/** Keeps what is uploaded on the device, a matrix. */
export function keepGraph(element: 'int32' | 'float32'): Uint8Array {
  const g = new GraphBuilder();
  g.input(KEEP_NAMES.value, element, ['A', 'B']);
  g.op('Identity', [KEEP_NAMES.value], {}, KEEP_NAMES.kept);
  g.output(KEEP_NAMES.kept, element, ['A', 'B']);
  return g.toBytes('keep');
}

function begin(spec: ArenaShape['spec'], type: ArenaType) {
  const g = new GraphBuilder();
  const sections = Array.from({ length: 2 * spec.layers }, (_, section) => section);
  return { g, arena: new Arena(g, spec, type), sections };
}
