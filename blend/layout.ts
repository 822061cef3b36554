/**
 * Where the KV of each prompt token comes from: the exact prefix, a segment reused at another position, or nowhere.
 *
 *   0           prefixTokens                                          promptTokens
 *   [ prefix    )[ new )[ reused         )[ reused  )[ new: question  )
 *
 * Invariants: prefix, reused spans and new spans cover [0, promptTokens) once; spans ascend and none is empty; the
 * last token is new, so that it is computed for its logits (K2). What stands in the exact prefix is never blended.
 *
 * Knows positions only: neither tokens nor keys, nor where a segment's rows lie.
 */
import assert from 'node:assert/strict';

/** Positions in the prompt, half-open. */
export interface TokenRange {
  readonly start: number;
  readonly end: number;
}

/** A segment that is cached on its own, at its place in the prompt. */
export interface CachedSegment extends TokenRange {
  /** The position its first token had when its KV was computed. */
  readonly storedStart: number;
}

/** Rows of one segment, to be reused: its keys are to be rotated by `start - storedStart` positions. */
export interface ReusedSpan extends CachedSegment {
  /** Where the segment begins in the prompt: before `start` if the exact prefix reaches into it. */
  readonly segmentStart: number;
}

export interface SegmentLayout {
  readonly promptTokens: number;
  /** The KV of `[0, prefixTokens)` is that of a full prefill. */
  readonly prefixTokens: number;
  readonly reused: readonly ReusedSpan[];
  /** What was found nowhere: always computed. */
  readonly newSpans: readonly TokenRange[];
}

/** The tokens of the reused spans, from which a selector chooses; parallel arrays, positions ascend. */
export interface ReusedTokens {
  readonly positions: Int32Array;
  /** Tokens before it in its segment: 0 at the segment's head. */
  readonly offsets: Int32Array;
}

/**
 * Lays a prompt out. A segment, or the part of it, that the exact prefix covers is left to the prefix. A first
 * segment that starts the prompt and was stored at position 0 had nothing before it there nor has it here, so its
 * KV is exact and it belongs to the prefix. A segment that ends the prompt loses its last token to the new ones.
 *
 * Asserts that segments are in order, within the prompt, not empty, and don't overlap.
 * @param prompt.prefixTokens tokens of the longest exact prefix found, fewer than `promptTokens`
 */
export function layoutSegments(prompt: {
  readonly promptTokens: number;
  readonly prefixTokens: number;
  readonly segments: readonly CachedSegment[];
}): SegmentLayout {
  const { promptTokens, segments } = prompt;
  assertCount(promptTokens);
  assertCount(prompt.prefixTokens);
  assert(prompt.prefixTokens < promptTokens, 'the last token of a prompt is computed');
  assertOrdered(segments, promptTokens);
  const lastToken = promptTokens - 1;
  const [first] = segments;
  const exactEnd = first?.start === 0 && first.storedStart === 0 ? Math.min(first.end, lastToken) : 0;
  const prefixTokens = Math.max(prompt.prefixTokens, exactEnd);
  const reused = segments
    .map((segment) => clipped(segment, { start: prefixTokens, end: lastToken }))
    .filter(({ start, end }) => start < end);
  return { promptTokens, prefixTokens, reused, newSpans: gaps(reused, prefixTokens, promptTokens) };
}

/** All tokens of the reused spans. */
export function reusedTokens(layout: SegmentLayout): ReusedTokens {
  const tokens = layout.reused.flatMap(({ start, end, segmentStart }) =>
    Array.from({ length: end - start }, (_, i) => ({
      position: start + i,
      offset: start + i - segmentStart,
    })),
  );
  return {
    positions: Int32Array.from(tokens, ({ position }) => position),
    offsets: Int32Array.from(tokens, ({ offset }) => offset),
  };
}

function clipped(segment: CachedSegment, within: TokenRange): ReusedSpan {
  const start = Math.max(segment.start, within.start);
  return {
    start,
    end: Math.min(segment.end, within.end),
    storedStart: segment.storedStart + start - segment.start,
    segmentStart: segment.start,
  };
}

function gaps(spans: readonly TokenRange[], start: number, end: number): TokenRange[] {
  const starts = [start, ...spans.map((span) => span.end)];
  const ends = [...spans.map((span) => span.start), end];
  return starts.map((from, i) => ({ start: from, end: ends[i]! })).filter((gap) => gap.start < gap.end);
}

function assertOrdered(segments: readonly CachedSegment[], promptTokens: number): void {
  let free = 0;
  for (const { start, end, storedStart } of segments) {
    assertCount(start);
    assertCount(end);
    assertCount(storedStart);
    assert(free <= start && start < end, 'segments are in order, apart and not empty');
    free = end;
  }
  assert(free <= promptTokens, 'segments end with the prompt');
}

function assertCount(count: number): void {
  assert(Number.isSafeInteger(count) && count >= 0, `${count} counts no tokens`);
}
