/** Which tokens of a prompt are exact, reused or new. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { layoutSegments, reusedTokens, type SegmentLayout, type TokenRange } from '#blend';
import { promptArbitrary } from './arbitrary.js';

const covered = ({ start, end }: TokenRange) => Array.from({ length: end - start }, (_, i) => start + i);

const lay = (promptTokens: number, prefixTokens: number, ...segments: [number, number, number][]) =>
  layoutSegments({
    promptTokens,
    prefixTokens,
    segments: segments.map(([start, end, storedStart]) => ({ start, end, storedStart })),
  });

describe('a layout', () => {
  test('covers every token once, in ascending spans that are not empty', () => {
    fc.assert(
      fc.property(promptArbitrary, (prompt) => {
        const layout = layoutSegments(prompt);
        const spans = [...layout.reused, ...layout.newSpans].sort((a, b) => a.start - b.start);
        for (const { start, end } of spans) assert.ok(start < end);
        const prefix = { start: 0, end: layout.prefixTokens };
        assert.deepEqual(
          [prefix, ...spans].flatMap(covered),
          covered({ start: 0, end: prompt.promptTokens }),
        );
        for (const list of [layout.reused, layout.newSpans])
          assert.ok(list.every(({ start }, i) => start >= (list[i - 1]?.end ?? 0)));
      }),
    );
  });

  test('computes the last token (K2)', () => {
    fc.assert(
      fc.property(promptArbitrary, (prompt) => {
        assert.equal(layoutSegments(prompt).newSpans.at(-1)?.end, prompt.promptTokens);
      }),
    );
    assert.deepEqual(lay(8, 2, [2, 8, 5]).newSpans, [{ start: 7, end: 8 }]);
    assert.deepEqual(lay(8, 0, [0, 8, 0]).prefixTokens, 7);
  });

  test('reuses every row that a segment has, at its stored position, and no other', () => {
    fc.assert(
      fc.property(promptArbitrary, (prompt) => {
        const layout = layoutSegments(prompt);
        const expected = new Map(
          prompt.segments.flatMap(({ start, end, storedStart }) =>
            covered({ start, end })
              .filter((position) => position >= layout.prefixTokens && position < prompt.promptTokens - 1)
              .map((position) => [position, storedStart + position - start] as const),
          ),
        );
        const actual = new Map(
          layout.reused.flatMap((span) =>
            covered(span).map((position) => [position, span.storedStart + position - span.start] as const),
          ),
        );
        assert.deepEqual(actual, expected);
      }),
    );
  });

  test('leaves a segment inside the exact prefix to the prefix, and one that begins there in part', () => {
    const { reused, newSpans } = lay(20, 10, [2, 5, 0], [6, 12, 30]);
    assert.deepEqual(reused, [{ start: 10, end: 12, storedStart: 34, segmentStart: 6 }]);
    assert.deepEqual(newSpans, [{ start: 12, end: 20 }]);
  });

  test('takes a segment that starts the prompt as it was stored for the exact prefix', () => {
    const { prefixTokens, reused } = lay(20, 3, [0, 5, 0], [5, 9, 0]);
    assert.equal(prefixTokens, 5);
    assert.equal(reused.length, 1);
    assert.equal(lay(20, 0, [0, 5, 1]).prefixTokens, 0);
    assert.equal(lay(20, 0, [1, 5, 0]).prefixTokens, 0);
    assert.equal(lay(20, 7, [0, 5, 0]).prefixTokens, 7);
  });

  test('counts tokens from the head of their segment, also behind the prefix', () => {
    const { positions, offsets } = reusedTokens(lay(20, 10, [6, 12, 30], [14, 16, 0]));
    assert.deepEqual([...positions], [10, 11, 14, 15]);
    assert.deepEqual([...offsets], [4, 5, 0, 1]);
  });

  test('refuses segments that are empty, overlap, or leave the prompt, and a prefix that is all of it', () => {
    const wrong: (() => SegmentLayout)[] = [
      () => lay(10, 0, [3, 3, 0]),
      () => lay(10, 0, [2, 5, 0], [4, 8, 0]),
      () => lay(10, 0, [4, 8, 0], [1, 2, 0]),
      () => lay(10, 0, [4, 11, 0]),
      () => lay(10, 0, [4, 6, -1]),
      () => lay(10, 0, [4, 6.5, 0]),
      () => lay(10, 10),
      () => lay(0, 0),
    ];
    for (const layOut of wrong) assert.throws(layOut, assert.AssertionError);
  });
});
