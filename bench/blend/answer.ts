/** The answer a model gives after a prompt whose rows are there: greedy, up to its end or the end of the line. */

import type { BlendSession } from '../../src/calibration/blend-session.js';
import { likeliest, type Prefilled } from '../../src/calibration/trial.js';
import type { Tokenizer } from '../../src/text/tokenizer.js';

export const ANSWER_TOKENS = 16;

/** Writes over the run's rows behind the prompt's `start`. */
export async function answerText(
  { session, tokenizer }: { readonly session: BlendSession; readonly tokenizer: Tokenizer },
  { run, logits: first }: Prefilled,
  start: number,
): Promise<string> {
  const answer: number[] = [];
  let logits = first;
  while (answer.length < ANSWER_TOKENS) {
    const token = likeliest(logits);
    if (tokenizer.endTokens.has(token)) break;
    answer.push(token);
    const text = tokenizer.decode(answer).trimStart();
    if (text.includes('\n')) break;
    if (answer.length < ANSWER_TOKENS) {
      logits = await session.runner.decode(run, start + answer.length - 1, token);
    }
  }
  return tokenizer.decode(answer).trim().split('\n')[0]!;
}
