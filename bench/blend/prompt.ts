/**
 * A benchmark's prompt: a header and the first passage as an exact prefix, other passages prefilled alone or behind a
 * context, and a question. Passages are cut, so that eight of them are about 2,000 tokens.
 */
import type {
  BlendSession,
  PrefilledContext,
  Prompt,
  StoredSegment,
} from '../../src/calibration/blend-session.js';
import type { PassagePrompt } from '../../src/calibration/musique.js';
import type { Tokenizer } from '../../src/text/tokenizer.js';
import { WAYS, type Way } from './choices.js';

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

/** The same prompt each way: with the passages but the first prefilled behind the way's context, which is dropped. */
export async function storedPrompts(
  session: BlendSession,
  { first, others, asked }: ReturnType<typeof promptParts>,
  contexts: Readonly<Record<Way, PrefilledContext>>,
): Promise<Record<Way, Prompt>> {
  const tokens = Int32Array.from([...first, ...others.flatMap((own) => [...own]), ...asked]);
  const run = session.createRun(first.length);
  await session.prefill(run, first);
  const promptBehind = async (context: PrefilledContext): Promise<Prompt> => {
    const runs = await session.prefillBehind(context, others);
    const segments: StoredSegment[] = [{ start: 0, end: first.length, storedStart: 0, run }];
    let start = first.length;
    for (const [i, { length }] of others.entries()) {
      segments.push({ start, end: start + length, storedStart: context.tokens.length, run: runs[i]! });
      start += length;
    }
    return { tokens, segments };
  };
  const [alone, behind] = WAYS;
  return { [alone]: await promptBehind(contexts[alone]), [behind]: await promptBehind(contexts[behind]) };
}
