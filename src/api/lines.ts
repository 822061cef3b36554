/**
 * Splits a stream of bytes into its lines, whatever pieces it comes in. A line that is too long is passed over, and
 * told by its number, so that the memory is bounded by the longest line allowed.
 */

export interface Line {
  /** From 1. */
  readonly number: number;
  /** Without its line feed; undefined when it is too long. */
  readonly bytes: Buffer | undefined;
}

const LINE_FEED = 0x0a;

export async function* linesOf(
  chunks: AsyncIterable<Uint8Array>,
  lineBytesMax: number,
): AsyncGenerator<Line, void, void> {
  let number = 1;
  let pieces: Uint8Array[] = [];
  let length = 0;
  const add = (piece: Uint8Array) => {
    length += piece.length;
    if (length <= lineBytesMax) pieces.push(piece);
    else pieces = [];
  };
  const end = (): Line => {
    const line = { number: number++, bytes: length > lineBytesMax ? undefined : Buffer.concat(pieces) };
    pieces = [];
    length = 0;
    return line;
  };
  for await (const chunk of chunks) {
    let start = 0;
    for (let at = chunk.indexOf(LINE_FEED); at >= 0; at = chunk.indexOf(LINE_FEED, start)) {
      add(chunk.subarray(start, at));
      start = at + 1;
      yield end();
    }
    add(chunk.subarray(start));
  }
  if (length > 0) yield end();
}
