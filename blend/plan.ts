/**
 * What a blend computes: rows, the past they read, and the tiles they are computed in.
 *
 * Rows are the chosen tokens and the new ones; the past is every other token, so that no stale copy of a chosen row
 * can be seen. The graph gets past ++ rows of the tiles before ++ the tile's own rows as keys, and the mask by their
 * positions (mask.ts). Positions ascend in rows and in past; together they are all positions once. Keys of the past
 * that belong to a reused span are rotated to these positions beforehand.
 */
import assert from 'node:assert/strict';
import type { SegmentLayout } from './layout.js';

/** One prefill run. Positions, as views of the plan's memory: read only. */
export interface BlendTile {
  /** `[rows]` of the tokens to compute. */
  readonly rows: Int32Array;
  /** `[past + rows of the tiles before + rows]` of the keys, in the order the graph sees them. */
  readonly keys: Int32Array;
}

export interface BlendPlan {
  /** Positions to compute, ascending; the last is the prompt's last token. */
  readonly rows: Int32Array;
  /** Positions whose cached KV is read, ascending. May be empty. */
  readonly past: Int32Array;
  /** In order: a tile reads the rows of those before. Their sizes differ by one row at most. */
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
  const positions = Array.from(computed, (_, position) => position);
  const pastPositions = positions.filter((position) => computed[position] === 0);
  const rowPositions = positions.filter((position) => computed[position] === 1);
  const keys = Int32Array.from([...pastPositions, ...rowPositions]);
  const past = keys.subarray(0, pastPositions.length);
  const rows = keys.subarray(past.length);
  const tiles = evenRanges(rows.length, tileRows).map(({ start, end }) => ({
    rows: rows.subarray(start, end),
    keys: keys.subarray(0, past.length + end),
  }));
  return { rows, past, tiles };
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
