/** Inputs that several graphs have in common, made from device runs and positions. */
import { Tensor } from 'onnxruntime-node';
import type { KvLayout } from '#storage';
import { NAMES } from '../model/graphs/trunk.js';
import type { DeviceRun } from './device-run.js';
import type { RotationRows, RotationTable } from './rotation-table.js';

export type Feeds = Record<string, Tensor>;

/** Rows `[start, end)` of a section as the graphs read them, `[end − start, kvHeads, headDim]`; no copy. */
export function rowsTensor(
  run: DeviceRun,
  layout: KvLayout,
  rows: { readonly section: number; readonly start: number; readonly end: number },
): Tensor {
  const { kvHeads, headDim, dtype } = layout;
  const dims = [rows.end - rows.start, kvHeads, headDim];
  const elements = dims[0]! * kvHeads * headDim;
  const { buffer, byteOffset } = run.rows(rows.section, rows.start, rows.end);
  return dtype === 'float16'
    ? new Tensor('float16', new Uint16Array(buffer, byteOffset, elements), dims)
    : new Tensor('float32', new Float32Array(buffer, byteOffset, elements), dims);
}

/** Rows `[start, end)` of a section in two parts, those of the run's base and its own; either may be empty. */
export function partTensors(
  run: DeviceRun,
  layout: KvLayout,
  { section, start, end }: Parameters<typeof rowsTensor>[2],
): { readonly base: Tensor; readonly past: Tensor } {
  const cut = (row: number) => ({ base: Math.min(row, run.baseRows), past: Math.max(row, run.baseRows) });
  const [from, to] = [cut(start), cut(end)];
  return {
    base: rowsTensor(run, layout, { section, start: from.base, end: to.base }),
    past: rowsTensor(run, layout, { section, start: from.past, end: to.past }),
  };
}

/** Rows `[0, rows)` of the first `layers` layers: what new rows attend to. */
export function pastFeeds(
  run: DeviceRun,
  layout: KvLayout,
  past: { readonly rows: number; readonly layers: number },
): Feeds {
  const feeds: Feeds = {};
  for (let section = 0; section < 2 * past.layers; section++) {
    const [of, layer] = [section % 2 === 0 ? 'k' : 'v', section >> 1] as const;
    const parts = partTensors(run, layout, { section, start: 0, end: past.rows });
    feeds[NAMES.base(of, layer)] = parts.base;
    feeds[NAMES.past(of, layer)] = parts.past;
  }
  return feeds;
}

/** Tokens, and the rotation of each. @param positions `[tokens]` */
export function tokenFeeds(tokens: Int32Array, positions: Int32Array, rotation: RotationTable): Feeds {
  return {
    [NAMES.tokens]: new Tensor('int64', BigInt64Array.from(tokens, BigInt), [tokens.length]),
    ...rotationFeeds(rotation.at(positions), tokens.length),
  };
}

/** The rotation of each of `rows` rows. */
export function rotationFeeds({ cos, sin }: RotationRows, rows: number): Feeds {
  const half = cos.length / rows;
  return {
    [NAMES.cos]: new Tensor('float32', cos, [rows, half]),
    [NAMES.sin]: new Tensor('float32', sin, [rows, half]),
    [NAMES.rotationRows]: new Tensor(
      'int64',
      BigInt64Array.from({ length: rows }, (_, i) => BigInt(i)),
      [1, rows],
    ),
  };
}

/** `[start, start + count)`. */
export function consecutive(start: number, count: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => start + i);
}

/** Tokens and positions of an even number of rows: where it was odd, one more token at the next position. */
export function evenRows(
  tokens: Int32Array,
  positions: Int32Array,
): { readonly tokens: Int32Array; readonly positions: Int32Array } {
  if (tokens.length % 2 === 0) return { tokens, positions };
  return {
    tokens: Int32Array.from([...tokens, 0]),
    positions: Int32Array.from([...positions, positions.at(-1)! + 1]),
  };
}
