/**
 * Measures what blending does to a model's answers, on prompts as they are served: the chat template around them, the
 * documents written as by default, each of them prefilled behind the context of all, the prompt exact up to the first
 * one.
 */
import { SELECTORS, type SelectorName, unmovable } from '#blend';
import { consecutive } from '../engine/feeds.js';
import { RadixkvError } from '../errors.js';
import { encodeDocuments } from '../text/chat-prompt.js';
import { createChatTemplate, requireChatTemplate } from '../text/chat-template.js';
import { DEFAULT_DOCUMENT_TEMPLATE, DocumentTemplate } from '../text/document-template.js';
import { segmentContext } from '../text/segment-context.js';
import { createTokenizer } from '../text/tokenizer.js';
import { BlendSession, type PrefilledContext, type Prompt, type StoredSegment } from './blend-session.js';
import { bootstrap } from './bootstrap.js';
import type { CorpusPrompt } from './corpus.js';
import { type MeasureRow, measurePrompt, recoveredShare } from './measure.js';
import { type BlendProfile, PROFILE_VERSION, type ProfileRow } from './profile.js';
import { mean } from './scores.js';

/** What a request might use; `random`, `none` and `all` are for comparison only. */
const SELECTORS_MEASURED = ['hkvd', 'heads', 'question', 'hybrid'] as const satisfies SelectorName[];
export const RATIOS = [0.05, 0.15, 0.3, 0.5];
const ANSWER_TOKENS = 24;
const INSTRUCTION = 'Answer the question from the texts above, in a few words.';

export interface CalibrationOptions {
  /** Of the imported model. */
  readonly directory: string;
  readonly threads: number;
  readonly prompts: readonly CorpusPrompt[];
  /** In words, for the profile. */
  readonly data: string;
  /** Called after each prompt. */
  readonly onPrompt: (done: number) => void;
}

/**
 * @throws RadixkvError `unsupported_model` where keys can't be moved or there is no chat template; `invalid_value` for
 * prompts that don't fit.
 */
export async function calibrate(options: CalibrationOptions): Promise<BlendProfile> {
  const { directory, threads, prompts, data, onPrompt } = options;
  const session = await BlendSession.open({ directory, threads });
  const { fingerprint, spec } = session.manifest;
  const reason = unmovable(spec.rope.scaling?.type);
  if (reason !== undefined) {
    throw new RadixkvError('unsupported_model', `keys of this model can't be moved (${reason})`);
  }
  const tokenizer = await createTokenizer(directory);
  const template = requireChatTemplate(await createChatTemplate(directory, tokenizer.names));
  const selectors = Object.fromEntries(SELECTORS_MEASURED.map((name) => [name, SELECTORS[name]()]));
  const text = { tokenizer, template, documentTemplate: new DocumentTemplate(DEFAULT_DOCUMENT_TEMPLATE) };
  const limits = { chunkTokens: session.layout.chunkTokens, contextTokens: spec.contextTokens };
  const context = await session.prefillContext(segmentContext(text, limits));
  const rows: MeasureRow[] = [];
  const lengths: number[] = [];
  for (const [i, corpusPrompt] of prompts.entries()) {
    const prompt = await storedPrompt(session, { text, context }, corpusPrompt);
    const wanted = { selectors, ratios: RATIOS, answerTokens: ANSWER_TOKENS };
    rows.push(...(await measurePrompt(session, prompt, wanted)));
    lengths.push(prompt.tokens.length);
    onPrompt(i + 1);
  }
  return {
    version: PROFILE_VERSION,
    fingerprint,
    data,
    questions: prompts.length,
    passages: Math.max(...prompts.map(({ passages }) => passages.length)),
    promptTokens: lengths.sort((a, b) => a - b)[lengths.length >> 1]!,
    answerTokens: ANSWER_TOKENS,
    reuseKl: mean(rows.map(({ reuseKl }) => reuseKl)),
    rows: SELECTORS_MEASURED.flatMap((selector) =>
      RATIOS.map((ratio) => {
        const own = rows.filter((row) => row.selector === selector && row.ratio === ratio);
        return profileRow(selector, ratio, own);
      }),
    ),
  };
}

function profileRow(selector: SelectorName, ratio: number, rows: readonly MeasureRow[]): ProfileRow {
  return {
    selector,
    ratio,
    kl: meanKl(rows),
    klUpper: bootstrap(rows, meanKl)[1],
    sameBest: mean(rows.map(({ sameBest }) => sameBest)),
    recovered: recoveredShare(rows),
  };
}

const meanKl = (rows: readonly MeasureRow[]) => mean(rows.map(({ kl }) => kl));

interface Setting {
  readonly text: Parameters<typeof encodeDocuments>[0];
  readonly context: PrefilledContext;
}

async function storedPrompt(
  session: BlendSession,
  { text, context }: Setting,
  { passages, question }: CorpusPrompt,
): Promise<Prompt> {
  const { tokens, segments, located } = encodeDocuments(
    text,
    [{ role: 'user', content: `${INSTRUCTION}\n\nQuestion: ${question}` }],
    passages.map((passage) => ({ title: passage.title, text: passage.text })),
    { addGenerationPrompt: true },
  );
  requireFit(tokens.length, session.manifest.spec.contextTokens);
  if (located.length === 0) throw refuse('no passage is long enough to be reused');
  const runs = await session.prefillBehind(
    context,
    located.map(({ index, offset, start, end }) => segments[index]!.subarray(0, offset + end - start)),
  );
  const stored = located.map(({ start, end, offset }, i): StoredSegment => {
    const run = session.createRun(end - start);
    run.gather(runs[i]!, consecutive(offset, end - start));
    return { start, end, storedStart: context.tokens.length + offset, run };
  });
  const prefixTokens = stored[0]!.start;
  if (prefixTokens === 0) return { tokens, segments: stored };
  const prefix = session.createRun(prefixTokens);
  await session.prefill(prefix, tokens.subarray(0, prefixTokens));
  return { tokens, segments: stored, prefix: { tokens: prefixTokens, run: prefix } };
}

function requireFit(promptTokens: number, contextTokens: number): void {
  if (promptTokens + ANSWER_TOKENS <= contextTokens) return;
  throw refuse(
    `a prompt has ${promptTokens} tokens, too many for the context of ${contextTokens}; lower --passages`,
  );
}

const refuse = (message: string) =>
  new RadixkvError('invalid_value', `--data: ${message}`, { param: '--data' });
