/**
 * A benchmark's prompt: a header and the first passage as an exact prefix, other passages prefilled alone or behind a
 * context, and a question. Passages are cut, so that eight of them are about 2,000 tokens.
 */
import type { BlendSession, Prompt, StoredSegment } from '../../src/calibration/blend-session.js';
import type { PassagePrompt } from '../../src/calibration/musique.js';
import type { Tokenizer } from '../../src/text/tokenizer.js';

const PASSAGE_TOKENS = 250;
const HEADER = '<|im_start|>user\nAnswer the question from the passages, in a few words.\n\n';
const CLOSING = '<|im_end|>\n<|im_start|>assistant\n';

/** @returns the tokens of header and first passage, of the other passages, and of the question */
export function promptParts(tokenizer: Tokenizer, { passages, question }: PassagePrompt) {
  const parts = passages.map((text) => tokenizer.encodeText(`${text}\n\n`).subarray(0, PASSAGE_TOKENS));
  parts[0] = Int32Array.from([...tokenizer.encodeRendered(HEADER), ...parts[0]!]);
  const asked = [
    ...tokenizer.encodeText(`\n\nQuestion: ${question}\nAnswer:`),
    ...tokenizer.encodeRendered(CLOSING),
  ];
  const [first, ...others] = parts;
  return { first, others, asked };
}

/** Prefills each passage but the first behind a context, which may be empty and is dropped. */
export async function storedPrompt(
  session: BlendSession,
  { first, others, asked }: ReturnType<typeof promptParts>,
  context: Int32Array,
): Promise<Prompt> {
  const [exact] = await session.prefillBehind(new Int32Array(), [first]);
  const runs = await session.prefillBehind(context, others);
  const segments: StoredSegment[] = [{ start: 0, end: first.length, storedStart: 0, run: exact! }];
  let start = first.length;
  for (const [i, { length }] of others.entries()) {
    segments.push({ start, end: start + length, storedStart: context.length, run: runs[i]! });
    start += length;
  }
  return { tokens: Int32Array.from([...first, ...others.flatMap((own) => [...own]), ...asked]), segments };
}
