/** What one question shows of each choice: predictions beside full prefill's, answers beside the gold ones, times. */
import { DEFAULT_SELECTOR, SELECTORS } from '#blend';
import type { BlendSession, PrefilledContext } from '../../src/calibration/blend-session.js';
import { type Comparison, compareWith } from '../../src/calibration/measure.js';
import { logSoftmax } from '../../src/calibration/scores.js';
import { type BlendMs, type Prefilled, Trial } from '../../src/calibration/trial.js';
import type { Tokenizer } from '../../src/text/tokenizer.js';
import { ANSWER_TOKENS, answerText } from './answer.js';
import { answerF1 } from './answer-score.js';
import { ANSWERED, type Choice, labelOf, MAIN_RATIO, RATIOS, WAYS, type Way } from './choices.js';
import { type Equalities, measureEqualities } from './equalities.js';
import { type promptParts, storedPrompts } from './prompt.js';

const FORCED_TOKENS = 24;

/** One choice at one ratio on one question. */
export interface ChoiceRow extends Comparison {
  readonly label: string;
  readonly ratio: number;
  /** Of plain reuse of passages that were prefilled alone. */
  readonly reuseKl: number;
}

export interface AnswerRow {
  readonly label: string;
  /** Of the gold answer, nats a token. */
  readonly logLikelihood: number;
  readonly f1: number;
}

/** The default selector at one ratio, and full prefill of the same question. */
export interface TimeRow extends BlendMs {
  readonly ratio: number;
  readonly fullMs: number;
}

export interface QuestionMeasures {
  readonly promptTokens: number;
  readonly rows: readonly ChoiceRow[];
  readonly answers: readonly AnswerRow[];
  readonly times: readonly TimeRow[];
  readonly equalities: Equalities | undefined;
}

/** @param options.gold answers, of which the first has its likelihood told; without any no answers are compared */
export async function measureQuestion(
  { session, tokenizer, contexts }: QuestionContext,
  parts: ReturnType<typeof promptParts>,
  options: {
    readonly choices: readonly Choice[];
    readonly gold: readonly string[];
    readonly isTimed: boolean;
    readonly isChecked: boolean;
  },
): Promise<QuestionMeasures> {
  const { choices, gold, isTimed, isChecked } = options;
  const prompts = await storedPrompts(session, parts, contexts);
  const alone = await Trial.begin(session, prompts.alone, FORCED_TOKENS);
  const trials: Record<Way, Trial> = {
    alone,
    'behind a context': await alone.with(prompts['behind a context']),
  };
  const compare = await compareWith(alone, FORCED_TOKENS);
  const answers: AnswerRow[] = [];
  const answer = async (label: string, prefilled: Prefilled) => {
    if (gold.length === 0) return;
    const text = await answerText(alone, prefilled, tokenizer);
    const tokens = tokenizer.encodeText(gold[0]!).subarray(0, ANSWER_TOKENS);
    const logits = await alone.forced(prefilled, [...tokens]);
    const logLikelihood =
      logits.reduce((sum, row, i) => sum + logSoftmax(row)[tokens[i]!]!, 0) / tokens.length;
    answers.push({ label, logLikelihood, f1: answerF1(text, gold) });
  };
  await answer('full prefill', alone.exact);
  const plain = await alone.reuse();
  const { kl: reuseKl, sameBest } = await compare(plain);
  const rows: ChoiceRow[] = [{ label: `none, ${WAYS[0]}`, ratio: 0, reuseKl, kl: reuseKl, sameBest }];
  await answer(`none, ${WAYS[0]}`, plain);
  for (const choice of choices) {
    const label = labelOf(choice);
    for (const ratio of choice.ratios) {
      const blended = await trials[choice.way].blend(choice.selector, ratio);
      rows.push({ label, ratio, reuseKl, ...(await compare(blended)) });
      if (ratio === MAIN_RATIO && ANSWERED.has(label)) await answer(label, blended);
    }
  }
  const times: TimeRow[] = [];
  for (const ratio of isTimed ? RATIOS : []) {
    const ms = await trials[WAYS[1]].time(SELECTORS[DEFAULT_SELECTOR](), ratio);
    times.push({ ratio, fullMs: alone.fullMs, ...ms });
  }
  const equalities = isChecked ? await measureEqualities(session, prompts[WAYS[1]]) : undefined;
  return { promptTokens: prompts.alone.tokens.length, rows, answers, times, equalities };
}

export interface QuestionContext {
  readonly session: BlendSession;
  readonly tokenizer: Tokenizer;
  /** What passages are prefilled behind; empty for those prefilled alone. */
  readonly contexts: Readonly<Record<Way, PrefilledContext>>;
}
