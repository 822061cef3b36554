/** What the benchmark of blending found, as Markdown. Pure. */
import type { BlendMeasures } from '../blend.bench.js';
import type { BlendSummary } from './summary.js';

const percent = (value: number): string => (100 * value).toFixed(0);

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function recoveryTable({ recovery }: BlendSummary): string {
  return table(
    ['selector, passages prefilled', 'ratio', 'recovered (5–95 %)', 'KL', 'same token', 'questions'],
    recovery.map(({ label, ratio, recovered, interval, kl, sameBest, questions }) => [
      label,
      String(ratio),
      `${percent(recovered)} % (${interval.map(percent).join('–')})`,
      kl.toFixed(4),
      `${percent(sameBest)} %`,
      String(questions),
    ]),
  );
}

function answerTable({ answers }: BlendSummary): string {
  return table(
    ['answers', 'log-likelihood of the gold answer (5–95 %)', 'F1 (5–95 %)'],
    answers.map(({ label, logLikelihood, logLikelihoodInterval, f1, f1Interval }) => [
      label,
      `${logLikelihood.toFixed(3)} (${logLikelihoodInterval.map((value) => value.toFixed(3)).join('–')})`,
      `${f1.toFixed(3)} (${f1Interval.map((value) => value.toFixed(3)).join('–')})`,
    ]),
  );
}

function timeTable({ times }: BlendSummary): string {
  return table(
    ['ratio', 'full prefill', 'blended', 'speed-up', 'place', 'rotate', 'select', 'recompute', 'questions'],
    times.map(({ ratio, fullMs, blendMs, speedUp, place, rotate, select, recompute, questions }) => [
      String(ratio),
      ...[fullMs, blendMs].map((ms) => `${ms.toFixed(0)} ms`),
      `${speedUp.toFixed(2)}×`,
      ...[place, rotate, select, recompute].map((ms) => `${ms.toFixed(0)} ms`),
      String(questions),
    ]),
  );
}

export function blendTables({ summary, raw, equalities }: BlendMeasures): string {
  const { all, none, firstOnly } = equalities;
  return [
    `${summary.questions} questions, ${summary.promptTokens} tokens (median); KL of plain reuse ${summary.reuseKl.toFixed(4)}`,
    recoveryTable(summary),
    answerTable(summary),
    timeTable(summary),
    `Raw prompts (${raw.questions}, ${raw.promptTokens} tokens; KL of plain reuse ${raw.reuseKl.toFixed(4)}):`,
    recoveryTable(raw),
    `Largest difference of logits: all recomputed ${all}, none ${none}, only the first passage reused ${firstOnly}`,
  ].join('\n\n');
}
