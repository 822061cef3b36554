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
import { DEFAULT_SELECTOR, SELECTORS, type Selector } from '#blend';
import { BlendSession, type Prompt } from '../src/calibration/blend-session.js';
import { type MeasureRow, measureTrial, recoveredShare } from '../src/calibration/measure.js';
import { type PassagePrompt, passagePrompts } from '../src/calibration/musique.js';
import { type BlendMs, Trial } from '../src/calibration/trial.js';
import { importModel } from '../src/model/importer.js';
import { createTokenizer, type Tokenizer } from '../src/text/tokenizer.js';
import { bootstrap, median } from './statistics.js';

const PASSAGES = 8;
const PASSAGE_TOKENS = 250;
const RATIOS = [0.05, 0.15, 0.3];
const CHOICES: Readonly<Record<string, Selector>> = {
  random: SELECTORS.random(),
  'hkvd K': SELECTORS.hkvd(),
  'hkvd, gradual': SELECTORS.hkvd({ checkLayers: [1, 10, 20] }),
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

/** One selector at one ratio. */
export interface BlendRow {
  readonly selector: string;
  readonly ratio: number;
  readonly recovered: number;
  /** 5th and 95th percentile. */
  readonly interval: readonly [number, number];
  readonly kl: number;
  readonly sameBest: number;
}

/** The default selector's times at one ratio: medians in milliseconds. */
export interface BlendTime extends BlendMs {
  readonly ratio: number;
  /** Full prefill ÷ the sum of the parts, of each prompt. */
  readonly speedUp: number;
}

export interface BlendMeasures {
  readonly questions: number;
  readonly promptTokens: number;
  readonly fullMs: number;
  readonly times: readonly BlendTime[];
  readonly reuseKl: number;
  readonly rows: readonly BlendRow[];
}

/** Measures all selectors at all ratios, question after question, in float32 compute. */
export async function blendBench(options: BlendBenchOptions): Promise<BlendMeasures> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-blend-'));
  try {
    await importModel({ path: options.gguf, directory, weights: 'float32', kvType: 'float32' });
    const session = await BlendSession.open({ directory, threads: options.threads });
    const tokenizer = await createTokenizer(directory);
    const rows: MeasureRow[] = [];
    const timed: { readonly fullMs: number; readonly ratio: number; readonly ms: BlendMs }[] = [];
    let done = 0;
    let promptTokens = 0;
    for (const passages of passagePrompts(options.file, {
      questions: options.questions,
      passages: PASSAGES,
    })) {
      const prompt = await storedPrompt(session, tokenizer, passages);
      promptTokens = prompt.tokens.length;
      const { answerTokens } = options;
      const trial = await Trial.begin(session, prompt, answerTokens);
      rows.push(...(await measureTrial(trial, { selectors: CHOICES, ratios: RATIOS, answerTokens })));
      for (const ratio of RATIOS) {
        timed.push({
          fullMs: trial.fullMs,
          ratio,
          ms: await trial.time(SELECTORS[DEFAULT_SELECTOR](), ratio),
        });
      }
      options.onNotice(`${++done} of ${options.questions} questions done`);
    }
    return {
      questions: done,
      promptTokens,
      fullMs: median(timed.map(({ fullMs }) => fullMs)),
      times: RATIOS.map((ratio) =>
        timeOf(
          ratio,
          timed.filter((each) => each.ratio === ratio),
        ),
      ),
      reuseKl: mean(rows.map(({ reuseKl }) => reuseKl)),
      rows: rowsOf(rows),
    };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function timeOf(
  ratio: number,
  timed: readonly { readonly fullMs: number; readonly ms: BlendMs }[],
): BlendTime {
  const part = (name: keyof BlendMs) => median(timed.map(({ ms }) => ms[name]));
  const speedUp = median(
    timed.map(({ fullMs, ms }) => fullMs / (ms.place + ms.rotate + ms.select + ms.recompute)),
  );
  const [place, rotate, select, recompute] = [
    part('place'),
    part('rotate'),
    part('select'),
    part('recompute'),
  ];
  return { ratio, speedUp, place, rotate, select, recompute };
}

function rowsOf(all: readonly MeasureRow[]): BlendRow[] {
  return Object.keys(CHOICES).flatMap((selector) =>
    RATIOS.map((ratio) => {
      const rows = all.filter((row) => row.selector === selector && row.ratio === ratio);
      return {
        selector,
        ratio,
        recovered: recoveredShare(rows),
        interval: bootstrap(rows, recoveredShare),
        kl: mean(rows.map(({ kl }) => kl)),
        sameBest: mean(rows.map(({ sameBest }) => sameBest)),
      };
    }),
  );
}

const percent = (value: number): string => (100 * value).toFixed(0);

/** The rows as Markdown. */
export function blendTable({ rows }: BlendMeasures): string {
  const lines = rows.map(({ selector, ratio, recovered, interval }) =>
    [selector, String(ratio), `${percent(recovered)} % (${interval.map(percent).join('–')})`].join(' | '),
  );
  const head = ['selector | ratio | recovered (5–95 %)', '--- | --- | ---'];
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

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
