/**
 * The first token of a prompt whose documents are cached in host memory, blended and in full, through the whole
 * service: `npm run bench -- documents`.
 *
 * Loading, rotation, selection and recomputation are all in it. Each question's documents are stored by a first
 * request; they are then asked about in other orders, with other words, so that nothing is a prefix of anything before,
 * and at last with `cache.mode` off, which computes everything.
 */
import { passagePrompts } from '../../src/calibration/musique.js';
import type { WeightsOption } from '../../src/config/options.js';
import type { Backend } from '../../src/server.js';
import { type BlendTimings, tokensOf } from '../../src/serving/completion.js';
import { createTokenizer, type Tokenizer } from '../../src/text/tokenizer.js';
import { median } from '../statistics.js';
import { askDocuments, cutDocument } from './ask.js';
import { withService } from './model.js';

const PASSAGES = 8;
const PASSAGE_TOKENS = 250;
const RATIOS = [0.05, 0.15, 0.3];

export interface DocumentsOptions {
  readonly gguf: string;
  readonly threads: number;
  readonly weights: WeightsOption;
  readonly file: string;
  readonly questions: number;
  readonly onNotice: (message: string) => void;
}

interface Asked {
  readonly ratio: number;
  readonly promptTokens: number;
  readonly computedTokens: number;
  readonly blendMs: number;
  readonly fullMs: number;
  readonly parts: BlendTimings;
}

/** Medians, times in milliseconds. */
export interface DocumentsRow extends Asked {
  /** Full ÷ blended of each question. */
  readonly speedUp: number;
}

export function documentsBench(options: DocumentsOptions): Promise<DocumentsRow[]> {
  const { gguf, weights, threads } = options;
  const serve = async () => ({ threads });
  return withService({ gguf, weights, serve }, async (backend, modelDirectory) => {
    const asked = await askAll(backend, await createTokenizer(modelDirectory), options);
    return RATIOS.map((ratio) => summary(asked.filter((each) => each.ratio === ratio)));
  });
}

async function askAll(
  { service, scheduler }: Backend,
  tokenizer: Tokenizer,
  { file, questions, onNotice }: DocumentsOptions,
): Promise<Asked[]> {
  const asked: Asked[] = [];
  const prompts = passagePrompts(file, { questions, passages: PASSAGES });
  for (const [i, { passages, question }] of prompts.entries()) {
    const documents = passages.map((text) => cutDocument(tokenizer, text, PASSAGE_TOKENS).document);
    const inOrder = (from: number) => [...documents.slice(from), ...documents.slice(0, from)];
    await askDocuments(service, { documents, question }, { mode: 'blend' });
    const blends = [];
    for (const [at, recomputeRatio] of RATIOS.entries()) {
      await scheduler.idle();
      const prompt = { documents: inOrder(1 + at), question: `${question} (${at})` };
      blends.push(await askDocuments(service, prompt, { mode: 'blend', recomputeRatio }));
    }
    await scheduler.idle();
    const full = await askDocuments(service, { documents: inOrder(4), question }, { mode: 'off' });
    for (const [at, { usage, timings }] of blends.entries()) {
      if (tokensOf(usage.blendedTokens) === 0) throw new Error('nothing was blended');
      const { promptTokens, computedTokens } = usage;
      const [blendMs, fullMs] = [timings.ttftMs, full.timings.ttftMs];
      asked.push({
        ratio: RATIOS[at]!,
        promptTokens,
        computedTokens,
        blendMs,
        fullMs,
        parts: timings.blend!,
      });
    }
    onNotice(`${i + 1} of ${prompts.length} questions`);
  }
  return asked;
}

function summary(asked: readonly Asked[]): DocumentsRow {
  const middle = (of: (each: Asked) => number) => median(asked.map(of));
  return {
    ratio: asked[0]!.ratio,
    promptTokens: middle(({ promptTokens }) => promptTokens),
    computedTokens: middle(({ computedTokens }) => computedTokens),
    fullMs: middle(({ fullMs }) => fullMs),
    blendMs: middle(({ blendMs }) => blendMs),
    speedUp: middle(({ fullMs, blendMs }) => fullMs / blendMs),
    parts: {
      prepareMs: middle(({ parts }) => parts.prepareMs),
      loadMs: middle(({ parts }) => parts.loadMs),
      rotateMs: middle(({ parts }) => parts.rotateMs),
      selectMs: middle(({ parts }) => parts.selectMs),
      recomputeMs: middle(({ parts }) => parts.recomputeMs),
    },
  };
}

/** A line a ratio. */
export function documentsTable(rows: readonly DocumentsRow[]): string {
  const lines = rows.map(({ ratio, promptTokens, computedTokens, fullMs, blendMs, speedUp, parts }) => {
    const { loadMs, rotateMs, selectMs, recomputeMs } = parts;
    const ms = [fullMs, blendMs, loadMs, rotateMs, selectMs, recomputeMs].map(
      (value) => `${value.toFixed(0)} ms`,
    );
    const [full, blend, ...rest] = ms;
    return [
      ratio,
      `${computedTokens} of ${promptTokens}`,
      full,
      blend,
      `${speedUp.toFixed(2)}×`,
      ...rest,
    ].join(' | ');
  });
  const head = 'ratio | tokens computed | full | blended | speed-up | load | rotate | select | recompute';
  return [head, Array.from({ length: 9 }, () => '---').join(' | '), ...lines]
    .map((line) => `| ${line} |`)
    .join('\n');
}
