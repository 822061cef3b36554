/**
 * How far a blended prompt's predictions are from full prefill's, by selector and ratio.
 *
 * Both are held to the same tokens: the greedy answer of full prefill, teacher-forced, `answerTokens` long whether or
 * not it ended before. What a difference is worth is `recoveredShare`'s matter, over as many prompts as the caller has.
 */
import { SELECTORS, type Selector } from '#blend';
import type { DeviceRun } from '../engine/device-run.js';
import type { BlendSession, Prompt } from './blend-session.js';
import { divergence, logSoftmax } from './scores.js';

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
  readonly selectMs: number;
  readonly recomputeMs: number;
}

/** What one prompt showed. Milliseconds: full prefill; copying, moving and plain reuse of what is stored. */
export interface PromptMeasures {
  readonly answer: readonly number[];
  readonly fullMs: number;
  readonly placeMs: number;
  readonly rotateMs: number;
  readonly reuseMs: number;
  readonly rows: readonly MeasureRow[];
}

/** Measures every selector at every ratio on one prompt, selector by selector. */
export async function measurePrompt(
  session: BlendSession,
  prompt: Prompt,
  { selectors, ratios, answerTokens }: MeasureOptions,
): Promise<PromptMeasures> {
  const capacity = prompt.tokens.length + answerTokens;
  const layout = session.layoutOf(prompt);
  const exact = session.createRun(capacity);
  const full = await timed(() => session.prefill(exact, prompt.tokens));
  const answer = await greedy(session, exact, full.result, prompt.tokens.length, answerTokens);
  const reused = session.createRun(capacity);
  const place = await timed(() => session.place(reused, prompt, layout));
  const rotate = await timed(() => session.blender.rotate(reused, layout.reused));
  const blended = async (selector: Selector, ratio: number) => {
    const run = session.createRun(capacity);
    run.copyFrom(reused, prompt.tokens.length);
    const select = await timed(() => session.select(run, prompt, layout, { selector, ratio }));
    const recompute = await timed(() => session.recompute(run, prompt, layout, select.result));
    const logits = await forced(session, run, recompute.result, prompt.tokens.length, answer.tokens);
    return {
      kl: mean(logits.map((row, i) => divergence(answer.logprobs[i]!, logSoftmax(row)))),
      sameBest: mean(logits.map((row, i) => (best(row) === answer.tokens[i] ? 1 : 0))),
      selectMs: select.ms,
      recomputeMs: recompute.ms,
    };
  };
  const plain = await blended(SELECTORS.none(), 0);
  const rows: MeasureRow[] = [];
  for (const [name, selector] of Object.entries(selectors)) {
    for (const ratio of ratios) {
      rows.push({ selector: name, ratio, ...(await blended(selector, ratio)), reuseKl: plain.kl });
    }
  }
  return {
    answer: answer.tokens,
    fullMs: full.ms,
    placeMs: place.ms,
    rotateMs: rotate.ms,
    reuseMs: plain.recomputeMs,
    rows,
  };
}

/** Share of plain reuse's divergence that blending removes: 1 − KL / KL of plain reuse, of means over `rows`. */
export function recoveredShare(rows: readonly Pick<MeasureRow, 'kl' | 'reuseKl'>[]): number {
  return 1 - mean(rows.map(({ kl }) => kl)) / mean(rows.map(({ reuseKl }) => reuseKl));
}

/** Logits after the prompt and after each answer token but the last. */
async function forced(
  session: BlendSession,
  run: DeviceRun,
  first: Float32Array,
  position: number,
  tokens: readonly number[],
): Promise<Float32Array[]> {
  const logits = [first];
  for (const [i, token] of tokens.slice(0, -1).entries()) {
    logits.push(await session.runner.decode(run, position + i, token));
  }
  return logits;
}

async function greedy(
  session: BlendSession,
  run: DeviceRun,
  first: Float32Array,
  position: number,
  count: number,
): Promise<{ readonly tokens: readonly number[]; readonly logprobs: readonly Float64Array[] }> {
  const tokens: number[] = [];
  const logprobs: Float64Array[] = [];
  let logits = first;
  while (tokens.length < count) {
    logprobs.push(logSoftmax(logits));
    tokens.push(best(logits));
    if (tokens.length < count)
      logits = await session.runner.decode(run, position + tokens.length - 1, tokens.at(-1)!);
  }
  return { tokens, logprobs };
}

async function timed<T>(action: () => T | Promise<T>): Promise<{ readonly result: T; readonly ms: number }> {
  const start = performance.now();
  const result = await action();
  return { result, ms: performance.now() - start };
}

const best = (logits: Float32Array): number => logits.indexOf(Math.max(...logits));

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
