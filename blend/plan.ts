/**
 * What a blend computes: rows, the past they read, and the tiles they are computed in.
 *
 * Rows are the chosen tokens and the new ones; the past is every other token, so that no stale copy of a chosen row
 * can be seen. A tile reads no further than its last row: the past up to there that no tile before has read is put
 * behind what is there, then its rows are computed behind that, with the mask by positions (mask.ts). Together past and
 * rows are all positions once. Keys of the past that belong to a reused span are rotated to these positions beforehand.
 */
import assert from 'node:assert/strict';
import type { SegmentLayout } from './layout.js';

/** One prefill run. Positions, as views of the plan's memory: read only. */
export interface BlendTile {
  /** `[past]` of the cached tokens that are read from this tile on, ascending. */
  readonly past: Int32Array;
  /** `[rows]` of the tokens to compute, ascending. */
  readonly rows: Int32Array;
  /** `[keys]` in the order the graph sees them: past and rows of each tile before, then its own. */
  readonly keys: Int32Array;
}

export interface BlendPlan {
  /** Positions to compute, ascending; the last is the prompt's last token. */
  readonly rows: Int32Array;
  /** In order: a tile reads what those before read and computed. Their sizes differ by one row at most. */
  readonly tiles: readonly BlendTile[];
}

/**
 * Plans a blend. O(prompt tokens).
 *
 * Asserts that `chosen` are reused tokens, ascending and unique, since other rows would give wrong KV.
 * @param chosen positions a selector chose
 * @param options.tileRows most rows of a tile
 */
export function planBlend(
  layout: SegmentLayout,
  chosen: Int32Array,
  options: { readonly tileRows: number },
): BlendPlan {
  const { tileRows } = options;
  assert(Number.isSafeInteger(tileRows) && tileRows > 0);
  assert(
    chosen.every((position, i) => position > (chosen[i - 1] ?? -1)),
    'chosen ascend and are unique',
  );
  const computed = computedTokens(layout, chosen);
  const positionsOf = (kind: 0 | 1, start: number, end: number) => {
    const all = Int32Array.from({ length: end - start }, (_, i) => start + i);
    return all.filter((position) => computed[position] === kind);
  };
  const rows = positionsOf(1, 0, computed.length);
  const keys = new Int32Array(computed.length);
  let read = 0;
  const tiles = evenRanges(rows.length, tileRows).map(({ start, end }): BlendTile => {
    const own = rows.subarray(start, end);
    const reach = own.at(-1)! + 1;
    const past = positionsOf(0, read, reach);
    // Rows ascend, so that the tiles before have put all positions before `read` there.
    keys.set(past, read);
    keys.set(own, read + past.length);
    read = reach;
    return { past, rows: own, keys: keys.subarray(0, reach) };
  });
  return { rows, tiles };
}

/** `[promptTokens]`, 1 for tokens that are new or chosen. */
function computedTokens(layout: SegmentLayout, chosen: Int32Array): Uint8Array {
  const reused = new Uint8Array(layout.promptTokens);
  const computed = new Uint8Array(layout.promptTokens);
  for (const { start, end } of layout.reused) reused.fill(1, start, end);
  for (const { start, end } of layout.newSpans) computed.fill(1, start, end);
  for (const position of chosen) {
    assert(reused[position] === 1, `position ${position} is not reused`);
    computed[position] = 1;
  }
  return computed;
}

/** `[0, length)` in as few ranges of at most `lengthMax` as can be, of about equal length. */
function evenRanges(length: number, lengthMax: number): { readonly start: number; readonly end: number }[] {
  const ranges = Math.ceil(length / lengthMax);
  const bound = (i: number) => Math.floor((i * length) / ranges);
  return Array.from({ length: ranges }, (_, i) => ({ start: bound(i), end: bound(i + 1) }));
}
