/**
 * What blending recovers and what it takes, on passages and a question: `npm run bench -- blend`.
 *
 * Recovered = 1 − KL(blend) / KL(plain reuse), KL to full prefill over the tokens of its greedy answer, teacher-forced;
 * means over questions, and a bootstrap interval over them. The first passage, with the header before it, is an exact
 * prefix; the others are prefilled alone at position 0 and moved.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SELECTORS, type Selector } from '#blend';
import type { DeviceRun } from '../src/engine/device-run.js';
import { importModel } from '../src/model/importer.js';
import { createTokenizer, type Tokenizer } from '../src/text/tokenizer.js';
import { BlendSession, type Prompt } from './blend-session.js';
import { type PassagePrompt, passagePrompts } from './musique.js';
import { divergence, logSoftmax } from './scores.js';
import { bootstrap, median } from './statistics.js';

const PASSAGES = 8;
const PASSAGE_TOKENS = 250;
const RATIOS = [0.05, 0.15, 0.3];
const CHOICES: Readonly<Record<string, Selector>> = {
  random: SELECTORS.random(),
  'hkvd K': SELECTORS.hkvd(),
  'hkvd V': SELECTORS.hkvd({ deviationOf: 'V' }),
  heads: SELECTORS.heads(),
  question: SELECTORS.question(),
  hybrid: SELECTORS.hybrid(),
};
const HEADER = '<|im_start|>user\nAnswer the question from the passages, in a few words.\n\n';
const CLOSING = '<|im_end|>\n<|im_start|>assistant\n';

export interface BlendBenchOptions {
  readonly gguf: string;
  readonly threads: number;
  readonly file: string;
  readonly questions: number;
  readonly answerTokens: number;
  readonly onNotice: (message: string) => void;
}

/** One selector at one ratio. Times are medians in milliseconds. */
export interface BlendRow {
  readonly selector: string;
  readonly ratio: number;
  readonly recovered: number;
  /** 5th and 95th percentile. */
  readonly interval: readonly [number, number];
  readonly kl: number;
  readonly selectMs: number;
  readonly recomputeMs: number;
}

export interface BlendMeasures {
  readonly questions: number;
  readonly promptTokens: number;
  readonly fullMs: number;
  readonly placeMs: number;
  readonly rotateMs: number;
  readonly reuseMs: number;
  readonly reuseKl: number;
  readonly rows: readonly BlendRow[];
}

/** Milliseconds: full prefill; copying, moving and plain reuse of what is stored. */
interface QuestionTimes {
  readonly full: number;
  readonly place: number;
  readonly rotate: number;
  readonly reuse: number;
}

interface Sample {
  readonly kl: number;
  readonly reuseKl: number;
  readonly selectMs: number;
  readonly recomputeMs: number;
}

/** Measures all selectors at all ratios, question after question, in float32 compute. */
export async function blendBench(options: BlendBenchOptions): Promise<BlendMeasures> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-blend-'));
  try {
    await importModel({ path: options.gguf, directory, weights: 'float32' });
    const session = await BlendSession.open({ directory, threads: options.threads });
    const tokenizer = await createTokenizer(directory);
    const samples = new Map<string, Sample[]>();
    const times: QuestionTimes[] = [];
    const reuseKls: number[] = [];
    let promptTokens = 0;
    for (const passages of passagePrompts(options.file, {
      questions: options.questions,
      passages: PASSAGES,
    })) {
      const prompt = await storedPrompt(session, tokenizer, passages);
      promptTokens = prompt.tokens.length;
      const measured = await measureQuestion(session, prompt, options.answerTokens);
      times.push(measured.ms);
      reuseKls.push(measured.reuseKl);
      for (const [name, sample] of measured.samples) {
        samples.set(name, [...(samples.get(name) ?? []), sample]);
      }
      options.onNotice(`${reuseKls.length} of ${options.questions} questions done`);
    }
    return {
      questions: reuseKls.length,
      promptTokens,
      fullMs: median(times.map(({ full }) => full)),
      placeMs: median(times.map(({ place }) => place)),
      rotateMs: median(times.map(({ rotate }) => rotate)),
      reuseMs: median(times.map(({ reuse }) => reuse)),
      reuseKl: mean(reuseKls),
      rows: rowsOf(samples),
    };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function rowsOf(samples: ReadonlyMap<string, readonly Sample[]>): BlendRow[] {
  return Object.keys(CHOICES).flatMap((selector) =>
    RATIOS.map((ratio) => {
      const of = samples.get(`${selector} ${ratio}`)!;
      const recovered = (some: readonly Sample[]) =>
        1 - mean(some.map(({ kl }) => kl)) / mean(some.map(({ reuseKl }) => reuseKl));
      return {
        selector,
        ratio,
        recovered: recovered(of),
        interval: bootstrap(of, recovered),
        kl: mean(of.map(({ kl }) => kl)),
        selectMs: median(of.map(({ selectMs }) => selectMs)),
        recomputeMs: median(of.map(({ recomputeMs }) => recomputeMs)),
      };
    }),
  );
}

const percent = (value: number): string => (100 * value).toFixed(0);

/** The rows as Markdown. */
export function blendTable({ rows }: BlendMeasures): string {
  const lines = rows.map(({ selector, ratio, recovered, interval, selectMs, recomputeMs }) =>
    [
      selector,
      String(ratio),
      `${percent(recovered)} % (${interval.map(percent).join('–')})`,
      `${selectMs.toFixed(0)} ms`,
      `${recomputeMs.toFixed(0)} ms`,
    ].join(' | '),
  );
  const head = ['selector | ratio | recovered (5–95 %) | select | recompute', '--- | --- | --- | --- | ---'];
  return [...head, ...lines].map((line) => `| ${line} |`).join('\n');
}

async function storedPrompt(
  session: BlendSession,
  tokenizer: Tokenizer,
  { passages, question }: PassagePrompt,
): Promise<Prompt> {
  const parts = passages.map((text) => tokenizer.encodeText(`${text}\n\n`).subarray(0, PASSAGE_TOKENS));
  parts[0] = Int32Array.from([...tokenizer.encodeRendered(HEADER), ...parts[0]!]);
  const asked = [
    ...tokenizer.encodeText(`\n\nQuestion: ${question}\nAnswer:`),
    ...tokenizer.encodeRendered(CLOSING),
  ];
  const segments = [];
  let start = 0;
  for (const tokens of parts) {
    const run = session.createRun(tokens.length);
    await session.prefill(run, tokens);
    segments.push({ start, end: start + tokens.length, storedStart: 0, run });
    start += tokens.length;
  }
  return { tokens: Int32Array.from([...parts.flatMap((tokens) => [...tokens]), ...asked]), segments };
}

async function measureQuestion(session: BlendSession, prompt: Prompt, answerTokens: number) {
  const capacity = prompt.tokens.length + answerTokens + 1;
  const layout = session.layoutOf(prompt);
  const exact = session.createRun(capacity);
  const full = await timed(() => session.prefill(exact, prompt.tokens));
  const answer = await greedy(session, exact, full.result, prompt.tokens.length, answerTokens);
  const reused = session.createRun(capacity);
  const place = await timed(() => session.place(reused, prompt, layout));
  const rotate = await timed(() => session.blender.rotate(reused, layout.reused));
  const blended = async (choice: { readonly selector: Selector; readonly ratio: number }) => {
    const run = session.createRun(capacity);
    run.copyFrom(reused, prompt.tokens.length);
    const select = await timed(() => session.select(run, prompt, layout, choice));
    const recompute = await timed(() => session.recompute(run, prompt, layout, select.result));
    const logits = await forced(session, run, recompute.result, prompt.tokens.length, answer.tokens);
    const kl = mean(logits.map((row, i) => divergence(answer.logprobs[i]!, logSoftmax(row))));
    return { kl, selectMs: select.ms, recomputeMs: recompute.ms };
  };
  const plain = await blended({ selector: SELECTORS.none(), ratio: 0 });
  await blended({ selector: SELECTORS.hybrid(), ratio: 0.01 }); // loads the graph that scores
  await blended({ selector: SELECTORS.hkvd(), ratio: 0.01 });
  const samples = new Map<string, Sample>();
  for (const [name, selector] of Object.entries(CHOICES)) {
    for (const ratio of RATIOS) {
      samples.set(`${name} ${ratio}`, { ...(await blended({ selector, ratio })), reuseKl: plain.kl });
    }
  }
  const ms = { full: full.ms, place: place.ms, rotate: rotate.ms, reuse: plain.recomputeMs };
  return { samples, ms, reuseKl: plain.kl };
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
    tokens.push(logits.indexOf(Math.max(...logits)));
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

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
