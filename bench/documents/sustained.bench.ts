/**
 * Blending under questions that never repeat, over more documents than memory holds: `npm run bench -- sustained`.
 *
 * Every question has some of the documents in an order of its own. Host memory and disk hold half of what all documents
 * take, each, so passages come and go. The whole service answers; one question in so many is asked again with
 * `cache.mode` off, which computes all of it and touches no cache, right after the blended one.
 */
import { kvLayout } from '#storage';
import { passagePrompts } from '../../src/calibration/musique.js';
import { parseServeOptions, type ServeOptions } from '../../src/config/options.js';
import { type Random, seededRandom } from '../../src/engine/random.js';
import { readManifest } from '../../src/model/manifest.js';
import type { Backend } from '../../src/server.js';
import { tokensOf } from '../../src/serving/completion.js';
import { createTokenizer } from '../../src/text/tokenizer.js';
import { median } from '../statistics.js';
import { askDocuments, cutDocument } from './ask.js';
import { withService } from './model.js';

const DOCUMENTS = 100;
const DOCUMENT_TOKENS = 250;
/** In one prompt. */
const FEWEST = 4;
const MOST = 8;
const RATIO = 0.15;
const COMPARE_EVERY = 5;
const SEED = 1;
/** Of what all documents take, for host memory and disk each. */
const BUDGET = 0.5;

export interface SustainedOptions {
  readonly gguf: string;
  readonly threads: number;
  readonly file: string;
  readonly questions: number;
  readonly onNotice: (message: string) => void;
}

interface Asked {
  readonly question: number;
  readonly promptTokens: number;
  readonly blendedMs: number;
  /** Of prompt tokens. */
  readonly reused: number;
  /** Undefined where it was not compared. */
  readonly fullMs: number | undefined;
}

/** One third of the questions: medians. */
export interface SustainedPart {
  readonly questions: number;
  readonly promptTokens: number;
  readonly blendedMs: number;
  readonly fullMs: number;
  /** Full ÷ blended, of each compared pair. */
  readonly speedUp: number;
  readonly reused: number;
}

export interface SustainedMeasures {
  readonly documents: number;
  readonly ratio: number;
  /** Budget of host memory, and that of the disk. */
  readonly tierBytes: number;
  readonly parts: readonly SustainedPart[];
  /** Speed-up in the last third ÷ that in the first. */
  readonly kept: number;
}

/** Time to first token, blended and full, over thirds of the questions. */
export async function sustainedBench(options: SustainedOptions): Promise<SustainedMeasures> {
  const { gguf, threads, file } = options;
  let corpus: Corpus | undefined;
  let tierBytes = 0;
  const serve = async (modelDirectory: string, { diskDir }: ServeOptions) => {
    corpus = await load(file, modelDirectory);
    tierBytes = Math.floor(corpus.bytes * BUDGET);
    const disk = { directory: diskDir, capacityBytes: tierBytes, freeBytesMin: 0, codec: 'auto' } as const;
    return { threads, hostBytes: tierBytes, disk };
  };
  return withService({ gguf, weights: 'auto', serve }, async (backend) => {
    const asked = await askAll(backend, corpus!, options);
    const parts = [0, 1, 2].map((part) =>
      summary(asked.filter(({ question }) => Math.floor((question * 3) / options.questions) === part)),
    );
    const kept = parts.at(-1)!.speedUp / parts[0]!.speedUp;
    return { documents: DOCUMENTS, ratio: RATIO, tierBytes, parts, kept };
  });
}

async function askAll(
  { service, scheduler }: Backend,
  { documents, questions }: Corpus,
  { questions: count, onNotice }: SustainedOptions,
): Promise<Asked[]> {
  const random = seededRandom(SEED);
  const asked: Asked[] = [];
  for (let question = 0; question < count; question++) {
    const chosen = sample(documents, FEWEST + Math.floor(random() * (MOST - FEWEST + 1)), random);
    const prompt = {
      documents: chosen,
      question: `${questions[question % questions.length]!} (${question})`,
    };
    const { usage, timings } = await askDocuments(service, prompt, { mode: 'blend', recomputeRatio: RATIO });
    await scheduler.idle();
    const isCompared = question % COMPARE_EVERY === 0;
    const full = isCompared ? await askDocuments(service, prompt, { mode: 'off' }) : undefined;
    const { promptTokens } = usage;
    const reused = (tokensOf(usage.cachedTokens) + tokensOf(usage.blendedTokens)) / promptTokens;
    const [blendedMs, fullMs] = [timings.ttftMs, full?.timings.ttftMs];
    asked.push({ question, promptTokens, blendedMs, reused, fullMs });
    if (question % 20 === 19) onNotice(`${question + 1} of ${count} questions`);
  }
  return asked;
}

type Corpus = Awaited<ReturnType<typeof load>>;

async function load(file: string, modelDirectory: string) {
  const prompts = passagePrompts(file, { questions: Number.POSITIVE_INFINITY, passages: 2 });
  const tokenizer = await createTokenizer(modelDirectory);
  const { spec, kvType: dtype } = await readManifest(modelDirectory);
  const { chunkTokens } = parseServeOptions();
  const { chunkBytes } = kvLayout({ ...spec, chunkTokens, dtype });
  const texts = [...new Set(prompts.flatMap(({ passages }) => passages))].slice(0, DOCUMENTS);
  let bytes = 0;
  const documents = texts.map((text) => {
    const { document, tokens } = cutDocument(tokenizer, text, DOCUMENT_TOKENS);
    bytes += Math.ceil(tokens / chunkTokens) * chunkBytes;
    return document;
  });
  return { documents, questions: prompts.map(({ question }) => question), bytes };
}

function sample<Item>(items: readonly Item[], count: number, random: Random): Item[] {
  const left = [...items];
  return Array.from({ length: count }, () => left.splice(Math.floor(random() * left.length), 1)[0]!);
}

function summary(asked: readonly Asked[]): SustainedPart {
  const compared = asked.flatMap(({ blendedMs, fullMs }) =>
    fullMs === undefined ? [] : [{ blendedMs, fullMs }],
  );
  return {
    questions: asked.length,
    promptTokens: median(asked.map(({ promptTokens }) => promptTokens)),
    blendedMs: median(asked.map(({ blendedMs }) => blendedMs)),
    fullMs: median(compared.map(({ fullMs }) => fullMs)),
    speedUp: median(compared.map(({ blendedMs, fullMs }) => fullMs / blendedMs)),
    reused: median(asked.map(({ reused }) => reused)),
  };
}

/** A line a third. */
export function sustainedTable({ parts, kept }: SustainedMeasures): string {
  const lines = [
    '| questions | prompt tokens | reused | blended | full | speed-up |',
    '| --- | --- | --- | --- | --- | --- |',
    ...parts.map(({ questions, promptTokens, reused, blendedMs, fullMs, speedUp }) => {
      const ms = [blendedMs, fullMs].map((value) => `${Math.round(value)} ms`).join(' | ');
      return `| ${questions} | ${promptTokens} | ${Math.round(100 * reused)} % | ${ms} | ${speedUp.toFixed(2)}× |`;
    }),
  ];
  return `${lines.join('\n')}\n\nspeed-up kept from the first to the last third: ${Math.round(100 * kept)} %`;
}
