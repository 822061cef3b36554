/** What the clients of a mixed load saw, in a few numbers. Pure. */
import assert from 'node:assert/strict';
import type { Answer } from './answer.js';

export interface LoadMeasures {
  readonly answers: number;
  /** From the first request to the last piece of text. */
  readonly seconds: number;
  readonly outputTokensPerSecond: number;
  readonly ttftP50Ms: number;
  readonly ttftP95Ms: number;
  /** Of an answer: from its first text to its last, per token after the first. */
  readonly tpotP50Ms: number;
  readonly tpotP95Ms: number;
  /** Of an answer: its longest silence after the first text. */
  readonly gapP95Ms: number;
  readonly promptTokens: number;
  /** As the server says. */
  readonly cachedTokens: number;
}

export function loadMeasures(answers: readonly Answer[]): LoadMeasures {
  const sum = (of: (answer: Answer) => number) => answers.reduce((all, answer) => all + of(answer), 0);
  const begun = Math.min(...answers.map(({ sentMs }) => sentMs));
  const ended = Math.max(...answers.map(({ textMs }) => textMs.at(-1)!));
  const seconds = (ended - begun) / 1000;
  const ttft = answers.map(({ sentMs, textMs }) => textMs[0]! - sentMs);
  const tpot = answers.map(({ textMs, tokens }) => (textMs.at(-1)! - textMs[0]!) / (tokens - 1));
  const gap = answers.map(({ textMs }) => Math.max(...textMs.slice(1).map((ms, i) => ms - textMs[i]!)));
  return {
    answers: answers.length,
    seconds,
    outputTokensPerSecond: sum(({ tokens }) => tokens) / seconds,
    ttftP50Ms: percentile(ttft, 50),
    ttftP95Ms: percentile(ttft, 95),
    tpotP50Ms: percentile(tpot, 50),
    tpotP95Ms: percentile(tpot, 95),
    gapP95Ms: percentile(gap, 95),
    promptTokens: sum(({ promptTokens }) => promptTokens),
    cachedTokens: sum(({ cachedTokens }) => cachedTokens),
  };
}

/** The smallest value that so many percent of all do not exceed. */
function percentile(values: readonly number[], percent: number): number {
  assert(values.length > 0, 'a percentile of nothing');
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil((percent / 100) * sorted.length) - 1]!;
}
