import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { QuestionMeasures } from '../../bench/blend/question.js';
import { summarise } from '../../bench/blend/summary.js';
import { blendTables } from '../../bench/blend/tables.js';

function question(reuseKl: number, kl: number, fullMs: number): QuestionMeasures {
  const ms = { place: 10, rotate: 20, select: 30, recompute: 40 };
  return {
    promptTokens: 100,
    rows: [
      { label: 'none, alone', ratio: 0, reuseKl, kl: reuseKl, sameBest: 0.5 },
      { label: 'question, alone', ratio: 0.15, reuseKl, kl, sameBest: 1 },
    ],
    answers: [{ label: 'full prefill', logLikelihood: -2, f1: 0.5 }],
    times: [{ ratio: 0.15, fullMs, ...ms }],
    equalities: undefined,
  };
}

const MEASURED = [question(0.1, 0.02, 500), question(0.3, 0.06, 300), question(0.2, 0.04, 400)];

test('recovered is of the means, and times are paired with the full prefill of their own question', () => {
  const { recovery, answers, times, reuseKl } = summarise(MEASURED);
  assert(Math.abs(reuseKl - 0.2) < 1e-12);
  assert.deepEqual(
    recovery.map(({ label, questions }) => [label, questions]),
    [
      ['none, alone', 3],
      ['question, alone', 3],
    ],
  );
  assert(Math.abs(recovery[1]!.recovered - 0.8) < 1e-12);
  assert.deepEqual(
    recovery[1]!.interval.map((value) => value.toFixed(6)),
    ['0.800000', '0.800000'],
  );
  assert.equal(answers[0]!.f1, 0.5);
  assert.deepEqual([times[0]!.fullMs, times[0]!.blendMs, times[0]!.speedUp], [400, 100, 4]);
});

test('the tables have a line for each choice', () => {
  const summary = summarise(MEASURED);
  const text = blendTables({ summary, raw: summary, equalities: { all: 0, none: 0, firstOnly: 1e-5 } });
  assert.match(text, /\| question, alone \| 0\.15 \| 80 % \(80–80\) \| 0\.0400 \| 100 % \| 3 \|/);
  assert.match(text, /\| 0\.15 \| 400 ms \| 100 ms \| 4\.00× \|/);
  assert.match(text, /only the first passage reused 0\.00001/);
});
