/**
 * How far a blended prompt's predictions are from full prefill's, by selector and ratio.
 *
 * Both are held to the same tokens: the greedy answer of full prefill, teacher-forced, `answerTokens` long whether or
 * not it ended before. What a difference is worth is `recoveredShare`'s matter, over as many prompts as the caller has.
 */
import type { Selector } from '#blend';
import type { BlendSession, Prompt } from './blend-session.js';
import { divergence, logSoftmax, mean } from './scores.js';
import { likeliest, type Prefilled, Trial } from './trial.js';

export interface MeasureOptions {
  readonly selectors: Readonly<Record<string, Selector>>;
  readonly ratios: readonly number[];
  /** Predictions compared, at least 1. */
  readonly answerTokens: number;
}

/** Of a blend with full prefill, on one prompt. */
export interface Comparison {
  /** Mean over the answer's tokens, nats, of full prefill's prediction from the blended one. */
  readonly kl: number;
  /** Share of the answer's tokens that both predict. */
  readonly sameBest: number;
}

/** One selector at one ratio on one prompt. */
export interface MeasureRow extends Comparison {
  readonly selector: string;
  readonly ratio: number;
  /** `kl` of plain reuse on the same prompt. */
  readonly reuseKl: number;
}

/** Measures every selector at every ratio on one prompt, selector by selector. */
export async function measurePrompt(
  session: BlendSession,
  prompt: Prompt,
  { selectors, ratios, answerTokens }: MeasureOptions,
): Promise<MeasureRow[]> {
  const trial = await Trial.begin(session, prompt, answerTokens);
  const compare = await compareWith(trial, answerTokens);
  const { kl: reuseKl } = await compare(await trial.reuse());
  const rows: MeasureRow[] = [];
  for (const [name, selector] of Object.entries(selectors)) {
    for (const ratio of ratios) {
      const comparison = await compare(await trial.blend(selector, ratio));
      rows.push({ selector: name, ratio, reuseKl, ...comparison });
    }
  }
  return rows;
}

/** What compares prompts of the trial's tokens, however they were made, with its full prefill. */
export async function compareWith(
  trial: Trial,
  answerTokens: number,
): Promise<(blended: Prefilled) => Promise<Comparison>> {
  const answer = await trial.greedy(trial.exact, answerTokens);
  const expected = (await trial.forced(trial.exact, answer)).map(logSoftmax);
  return async (blended) => {
    const logits = await trial.forced(blended, answer);
    return {
      kl: mean(logits.map((row, i) => divergence(expected[i]!, logSoftmax(row)))),
      sameBest: mean(logits.map((row, i) => (likeliest(row) === answer[i] ? 1 : 0))),
    };
  };
}

/** Share of plain reuse's divergence that blending removes: 1 − KL / KL of plain reuse, of means over `rows`. */
export function recoveredShare(rows: readonly Pick<MeasureRow, 'kl' | 'reuseKl'>[]): number {
  return 1 - mean(rows.map(({ kl }) => kl)) / mean(rows.map(({ reuseKl }) => reuseKl));
}
