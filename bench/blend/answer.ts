/** The answer a model gives after a prompt whose rows are there: greedy, up to its end or the end of the line. */
import type { Prefilled, Trial } from '../../src/calibration/trial.js';
import type { Tokenizer } from '../../src/text/tokenizer.js';

export const ANSWER_TOKENS = 16;

/** Writes over the run's rows behind the prompt. */
export async function answerText(trial: Trial, prefilled: Prefilled, tokenizer: Tokenizer): Promise<string> {
  const textOf = (answer: readonly number[]) =>
    tokenizer.decode(answer.filter((token) => !tokenizer.endTokens.has(token)));
  const answer = await trial.greedy(
    prefilled,
    ANSWER_TOKENS,
    (tokens) => tokenizer.endTokens.has(tokens.at(-1)!) || textOf(tokens).trimStart().includes('\n'),
  );
  return textOf(answer).trim().split('\n')[0]!;
}
