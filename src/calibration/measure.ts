/**
 * How far a blended prompt's predictions are from full prefill's, by selector and ratio.
 *
 * Both are held to the same tokens: the greedy answer of full prefill, teacher-forced, `answerTokens` long whether or
 * not it ended before. What a difference is worth is `recoveredShare`'s matter, over as many prompts as the caller has.
 */
import type { Selector } from '#blend';
import type { BlendSession, Prompt } from './blend-session.js';
import { divergence, logSoftmax } from './scores.js';
import { likeliest, type Prefilled, Trial } from './trial.js';

export interface MeasureOptions {
  readonly selectors: Readonly<Record<string, Selector>>;
  readonly ratios: readonly number[];
  /** Predictions compared, at least 1. */
  readonly answerTokens: number;
}

/** One selector at one ratio on one prompt. */
export interface MeasureRow {
  readonly selector: string;
  readonly ratio: number;
  /** Mean over the answer's tokens, nats, of full prefill's prediction from the blended one. */
  readonly kl: number;
  /** Share of the answer's tokens that both predict. */
  readonly sameBest: number;
  /** `kl` of plain reuse on the same prompt. */
  readonly reuseKl: number;
}

/** Measures every selector at every ratio on one prompt, selector by selector. */
export async function measurePrompt(
  session: BlendSession,
  prompt: Prompt,
  options: MeasureOptions,
): Promise<MeasureRow[]> {
  const trial = await Trial.begin(session, prompt, options.answerTokens);
  return measureTrial(trial, options);
}

/** As `measurePrompt`, of a prompt that is prefilled already. */
export async function measureTrial(
  trial: Trial,
  { selectors, ratios, answerTokens }: MeasureOptions,
): Promise<MeasureRow[]> {
  const answer = await trial.greedy(trial.exact, answerTokens);
  const expected = (await trial.forced(trial.exact, answer)).map(logSoftmax);
  const distance = async (blended: Prefilled) => {
    const logits = await trial.forced(blended, answer);
    return {
      kl: mean(logits.map((row, i) => divergence(expected[i]!, logSoftmax(row)))),
      sameBest: mean(logits.map((row, i) => (likeliest(row) === answer[i] ? 1 : 0))),
    };
  };
  const { kl: reuseKl } = await distance(await trial.reuse());
  const rows: MeasureRow[] = [];
  for (const [name, selector] of Object.entries(selectors)) {
    for (const ratio of ratios) {
      rows.push({
        selector: name,
        ratio,
        reuseKl,
        ...(await distance(await trial.blend(selector, ratio))),
      });
    }
  }
  return rows;
}

/** Share of plain reuse's divergence that blending removes: 1 − KL / KL of plain reuse, of means over `rows`. */
export function recoveredShare(rows: readonly Pick<MeasureRow, 'kl' | 'reuseKl'>[]): number {
  return 1 - mean(rows.map(({ kl }) => kl)) / mean(rows.map(({ reuseKl }) => reuseKl));
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
