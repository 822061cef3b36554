/**
 * Selection of the largest values without sorting them: expected O(n).
 */

/**
 * The value at which the largest values, counted down from the top, reach `target`: each counts 1, or itself when
 * `weighted` (values are then not negative). All larger values are needed, and of those equal to it some.
 *
 * @param values scratch: reordered. Only `[0, count)` is used, `count > 0`.
 * @returns the smallest value when even all of them don't reach the target.
 */
export function selectThreshold(
  values: Float64Array,
  count: number,
  target: number,
  weighted: boolean,
): number {
  let start = 0;
  let end = count;
  let rest = target;
  for (;;) {
    const pivot = medianOfThree(values[start]!, values[(start + end) >> 1]!, values[end - 1]!);
    // [start, above) > pivot, [above, i) = pivot, [below, end) < pivot.
    let above = start;
    let below = end;
    let massAbove = 0;
    let massEqual = 0;
    for (let i = start; i < below; ) {
      const value = values[i]!;
      if (value > pivot) {
        massAbove += weighted ? value : 1;
        values[i++] = values[above]!;
        values[above++] = value;
      } else if (value < pivot) {
        values[i] = values[--below]!;
        values[below] = value;
      } else {
        massEqual += weighted ? value : 1;
        i++;
      }
    }
    if (massAbove >= rest && above > start) end = above;
    else if (massAbove + massEqual >= rest || below === end) return pivot;
    else {
      rest -= massAbove + massEqual;
      start = below;
    }
  }
}

/**
 * The `count`-th largest value, `0 < count ≤ values.length`. Fast when `count` is small: only values that can be among
 * the largest are looked at twice.
 *
 * @param scratch as long as `values`; overwritten.
 */
export function selectLargest(values: Float32Array, count: number, scratch: Float64Array): number {
  // Each block has one maximum, so `count` values are at least as large as the `count`-th largest of these.
  const blockLength = Math.ceil(values.length / Math.min(4 * count, values.length));
  let blocks = 0;
  for (let start = 0; start < values.length; start += blockLength) {
    const end = Math.min(start + blockLength, values.length);
    let highest = -Infinity;
    for (let i = start; i < end; i++) if (values[i]! > highest) highest = values[i]!;
    scratch[blocks++] = highest;
  }
  const bound = selectThreshold(scratch, blocks, count, false);
  let candidates = 0;
  for (let i = 0; i < values.length; i++) if (values[i]! >= bound) scratch[candidates++] = values[i]!;
  return selectThreshold(scratch, candidates, count, false);
}

function medianOfThree(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}
