/** Finding segments in a prompt: only equal tokens, in order, apart, and what differs at the seams is left out. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { locateSegments, SEGMENT_TOKENS_MIN } from '../../src/text/locate.js';

/** Few token ids, so that things also agree where nothing was put. */
const tokens = (minLength: number, maxLength: number) =>
  fc.array(fc.integer({ min: 0, max: 3 }), { minLength, maxLength }).map((ids) => Int32Array.from(ids));

const joined = (parts: readonly Int32Array[]) => Int32Array.from(parts.flatMap((part) => [...part]));

test('what is found are the tokens of the segment, in the order of the segments, and apart', () => {
  fc.assert(
    fc.property(tokens(0, 200), fc.array(tokens(0, 40), { maxLength: 6 }), (prompt, segments) => {
      let from = 0;
      for (const { index, start, end, offset } of locateSegments(prompt, segments)) {
        assert(start >= from && end <= prompt.length && end - start >= SEGMENT_TOKENS_MIN);
        assert.deepEqual(
          prompt.subarray(start, end),
          segments[index]!.subarray(offset, offset + end - start),
        );
        from = end;
      }
    }),
  );
});

/** Ids that stand nowhere else, one range a segment. */
function distinct(lengths: readonly number[]): Int32Array[] {
  return lengths.map((length, i) => Int32Array.from({ length }, (_, j) => 1000 * (i + 1) + j));
}

test('segments that stand whole in a prompt are all found where they stand', () => {
  const lengths = fc.array(fc.integer({ min: SEGMENT_TOKENS_MIN, max: 60 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(lengths, fc.array(tokens(0, 10), { minLength: 7, maxLength: 7 }), (sizes, between) => {
      const segments = distinct(sizes);
      const prompt = joined(segments.flatMap((segment, i) => [between[i]!, segment]).concat(between[6]!));
      let at = 0;
      const expected = segments.map((segment, index) => {
        const start = at + between[index]!.length;
        at = start + segment.length;
        return { index, start, end: at, offset: 0 };
      });
      assert.deepEqual(locateSegments(prompt, segments), expected);
    }),
  );
});

test('tokens that joined others at the seams are left out, as far as four at each end', () => {
  const segment = distinct([40])[0]!;
  for (let head = 0; head <= 5; head++) {
    for (let tail = 0; tail <= 5; tail++) {
      const prompt = joined([Int32Array.of(1, 2), segment.subarray(head, 40 - tail), Int32Array.of(3)]);
      const expected =
        head <= 4 && tail <= 4 ? [{ index: 0, start: 2, end: 2 + 40 - head - tail, offset: head }] : [];
      assert.deepEqual(locateSegments(prompt, [segment]), expected, `${head} and ${tail}`);
    }
  }
});

test('equal segments are found one after another, and one that is missing hides no other', () => {
  const [a, b, missing] = [20, 30, 40].map((_, i, sizes) => distinct(sizes)[i]!);
  const found = locateSegments(joined([a!, a!, b!]), [a!, missing!, a!, b!]);
  assert.deepEqual(
    found.map(({ index, start }) => [index, start]),
    [
      [0, 0],
      [2, 20],
      [3, 40],
    ],
  );
});

test('a segment shorter than is worth it is not looked for', () => {
  const short = distinct([SEGMENT_TOKENS_MIN - 1])[0]!;
  assert.deepEqual(locateSegments(short, [short]), []);
});
