/**
 * What blending recovers, what it does to answers, and what it takes, on passages and questions:
 * `npm run bench -- blend`.
 *
 * Recovered = 1 − KL(blend) / KL(plain reuse of passages that were prefilled alone), KL to full prefill over the tokens
 * of its greedy answer, teacher-forced; of means over questions, with bootstrap intervals over them. Computed in
 * float32, KV too. The first passage, with the header before it, is an exact prefix.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BlendSession } from '../src/calibration/blend-session.js';
import { type PassagePrompt, passagePrompts, rawPrompts } from '../src/calibration/musique.js';
import { importModel } from '../src/model/importer.js';
import { createChatTemplate } from '../src/text/chat-template.js';
import { DEFAULT_DOCUMENT_TEMPLATE, DocumentTemplate } from '../src/text/document-template.js';
import { segmentContext } from '../src/text/segment-context.js';
import { createTokenizer } from '../src/text/tokenizer.js';
import { CHOICES, RAW_CHOICES, RAW_QUESTIONS, WAYS } from './blend/choices.js';
import type { Equalities } from './blend/equalities.js';
import { promptParts } from './blend/prompt.js';
import { measureQuestion, type QuestionContext, type QuestionMeasures } from './blend/question.js';
import { type BlendSummary, summarise } from './blend/summary.js';

const PASSAGES = 8;
/** One question in so many is timed. */
const TIME_EVERY = 5;
const CHECKED_QUESTIONS = 3;

export interface BlendBenchOptions {
  readonly gguf: string;
  readonly threads: number;
  readonly file: string;
  readonly questions: number;
  readonly onNotice: (message: string) => void;
}

export interface BlendMeasures {
  /** Of de-duplicated prompts, and of the first raw ones. */
  readonly summary: BlendSummary;
  readonly raw: BlendSummary;
  /** The largest differences over the first questions. */
  readonly equalities: Equalities;
}

export async function blendBench(options: BlendBenchOptions): Promise<BlendMeasures> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-blend-'));
  try {
    await importModel({ path: options.gguf, directory, weights: 'float32', kvType: 'float32' });
    return await measure(await openModel(directory, options.threads), options);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function openModel(directory: string, threads: number): Promise<QuestionContext> {
  const session = await BlendSession.open({ directory, threads });
  const tokenizer = await createTokenizer(directory);
  const template = await createChatTemplate(directory, tokenizer.names);
  const documentTemplate = new DocumentTemplate(DEFAULT_DOCUMENT_TEMPLATE);
  const { contextTokens } = session.manifest.spec;
  const limits = { chunkTokens: session.layout.chunkTokens, contextTokens };
  const context = segmentContext({ tokenizer, template, documentTemplate }, limits);
  const [alone, behind] = WAYS;
  return {
    session,
    tokenizer,
    contexts: {
      [alone]: await session.prefillContext(new Int32Array()),
      [behind]: await session.prefillContext(context),
    },
  };
}

async function measure(context: QuestionContext, options: BlendBenchOptions): Promise<BlendMeasures> {
  const { file, questions, onNotice } = options;
  const partsOf = (prompt: PassagePrompt) => promptParts(context.tokenizer, prompt);
  const prompts = passagePrompts(file, { questions, passages: PASSAGES });
  const raw = rawPrompts(file, { questions: Math.min(questions, RAW_QUESTIONS), passages: PASSAGES });
  const total = prompts.length + raw.length;
  const startedAt = performance.now();
  const note = (done: number) => {
    const leftMs = ((performance.now() - startedAt) / done) * (total - done);
    onNotice(`${done} of ${total} prompts, about ${Math.ceil(leftMs / 60_000)} min left`);
  };

  const measured: QuestionMeasures[] = [];
  for (const [i, prompt] of prompts.entries()) {
    const choices = CHOICES.filter(({ questions: most = Infinity }) => i < most);
    const isTimed = i % TIME_EVERY === 0;
    const isChecked = i < CHECKED_QUESTIONS;
    const wanted = { choices, gold: prompt.answers, isTimed, isChecked };
    measured.push(await measureQuestion(context, partsOf(prompt), wanted));
    note(i + 1);
  }
  const measuredRaw: QuestionMeasures[] = [];
  for (const [i, prompt] of raw.entries()) {
    const wanted = { choices: RAW_CHOICES, gold: [], isTimed: false, isChecked: false };
    measuredRaw.push(await measureQuestion(context, partsOf(prompt), wanted));
    note(prompts.length + i + 1);
  }
  const checked = measured.flatMap(({ equalities }) => equalities ?? []);
  const largest = (name: keyof Equalities) => Math.max(...checked.map((each) => each[name]));
  return {
    summary: summarise(measured),
    raw: summarise(measuredRaw),
    equalities: { all: largest('all'), none: largest('none'), firstOnly: largest('firstOnly') },
  };
}
