/**
 * Finds segments in a prompt by their tokens.
 *
 * A segment is tokenised alone, and again as part of the whole prompt, where its first and last tokens may come out
 * joined with what stands beside them. Only equal tokens are a find, so KV is never taken for tokens it was not computed
 * from; what differs at the seams is left to be computed. Never looks at text.
 */

/** Tokens `[start, end)` of the prompt equal the segment's from `offset` on. */
export interface LocatedSegment {
  /** Of the segment in the list. */
  readonly index: number;
  readonly start: number;
  readonly end: number;
  readonly offset: number;
}

/** Tokens at the head of a segment that may differ in the prompt. */
const SEAM_TOKENS = 4;

/** Shorter finds are not worth their place in the cache. */
export const SEGMENT_TOKENS_MIN = 16;

/**
 * Where the segments stand, in their order and apart; one that is not found is left out. Each is searched for behind
 * the one before, so equal segments are found one after another. O(prompt · segments) at worst.
 */
export function locateSegments(prompt: Int32Array, segments: readonly Int32Array[]): LocatedSegment[] {
  const located: LocatedSegment[] = [];
  let from = 0;
  for (const [index, segment] of segments.entries()) {
    const found = locate(prompt, segment, from);
    if (found === undefined) continue;
    located.push({ index, ...found });
    from = found.end;
  }
  return located;
}

function locate(prompt: Int32Array, segment: Int32Array, from: number) {
  for (let offset = 0; offset <= SEAM_TOKENS && segment.length - offset >= SEGMENT_TOKENS_MIN; offset++) {
    const rest = segment.subarray(offset);
    for (let start = from; start + SEGMENT_TOKENS_MIN <= prompt.length; start++) {
      if (prompt[start] !== rest[0]) continue;
      const length = agreeing(prompt, start, rest);
      const isWhole = length >= rest.length - SEAM_TOKENS;
      if (isWhole && length >= SEGMENT_TOKENS_MIN) return { start, end: start + length, offset };
    }
  }
  return undefined;
}

function agreeing(prompt: Int32Array, start: number, segment: Int32Array): number {
  const most = Math.min(segment.length, prompt.length - start);
  let length = 0;
  while (length < most && prompt[start + length] === segment[length]) length++;
  return length;
}
