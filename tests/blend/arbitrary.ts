/** Random prompts: layouts with prefixes that reach into segments, gaps between segments, and questions. */
import fc from 'fast-check';
import { layoutSegments } from '#blend';

const segment = fc.record({
  gap: fc.nat(2),
  length: fc.integer({ min: 1, max: 5 }),
  storedStart: fc.nat(9),
});

/** What `layoutSegments` takes. */
export const promptArbitrary = fc
  .record({
    segments: fc.array(segment, { maxLength: 4 }),
    question: fc.integer({ min: 1, max: 3 }),
    prefix: fc.nat(6),
  })
  .map(({ segments: drawn, question, prefix }) => {
    let end = 0;
    const segments = drawn.map(({ gap, length, storedStart }) => {
      const start = end + gap;
      end = start + length;
      return { start, end, storedStart };
    });
    const promptTokens = end + question;
    return { promptTokens, prefixTokens: Math.min(prefix, promptTokens - 1), segments };
  });

export const layoutArbitrary = promptArbitrary.map(layoutSegments);

export const ratioArbitrary = fc.oneof(
  fc.constantFrom(0, 1),
  fc.double({ min: 0, max: 1, noNaN: true }),
  fc.integer({ min: 0, max: 20 }).map((twentieths) => twentieths / 20),
);
