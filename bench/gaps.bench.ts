/**
 * What a long prompt does to answers that are being streamed: `npm run bench -- gaps`. Eight clients read their answers
 * while a ninth one sends a prompt of 4,000 tokens that nobody has sent before.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import type { WeightsOption } from '../src/config/options.js';
import { seededRandom } from '../src/engine/random.js';
import { createTokenizer } from '../src/text/tokenizer.js';
import { cutDocument } from './documents/ask.js';
import { type Answer, streamAnswer } from './load/answer.js';
import { importFor } from './load/servers.js';
import { sentences } from './load/text.js';
import { ServerProcess } from './server-process.js';
import { median } from './statistics.js';

const STREAMS = 8;
const ANSWER_TOKENS = 300;
const PROMPT_TOKENS = 4000;
const PROMPT_SENTENCES = 300;
/** The answers are under way when the long prompt comes. */
const LEAD_MS = 4000;

interface GapsRound {
  /** Of all streams. */
  readonly medianGapMs: number;
  readonly longestGapMs: number;
  /** Of the stream in which it is largest: the longest gap, of the stream's own median. */
  readonly gapRatio: number;
  /** First token of the long prompt beside the streams, and of another one alone. */
  readonly ttftMs: number;
  readonly ttftAloneMs: number;
}

export async function gapsBench(options: {
  readonly gguf: string;
  readonly threads: number;
  readonly weights: WeightsOption;
  readonly rounds: number;
  readonly onNotice: (message: string) => void;
}): Promise<readonly GapsRound[]> {
  const { gguf, threads, weights, rounds: count, onNotice } = options;
  const dataDir = await mkdtemp(join(tmpdir(), 'radixkv-gaps-'));
  try {
    const model = await importFor(dataDir, gguf, weights);
    const tokenizer = await createTokenizer(model.directory);
    const server = await ServerProcess.start(model.name, { 'data-dir': dataDir, threads, weights });
    try {
      const client = new OpenAI({ baseURL: new URL('/v1', server.url).href, apiKey: 'none', maxRetries: 0 });
      const random = seededRandom(3);
      const longPrompt = () =>
        cutDocument(tokenizer, sentences(random, PROMPT_SENTENCES), PROMPT_TOKENS).document.text;
      const ask = (content: string, tokens: number) =>
        streamAnswer(client, [{ role: 'user', content }], {
          model: model.name,
          tokens,
          endTokens: tokenizer.endTokens,
        });
      const rounds: GapsRound[] = [];
      while (rounds.length < count) {
        const streams = Array.from({ length: STREAMS }, () => ask(sentences(random, 1), ANSWER_TOKENS));
        await sleep(LEAD_MS);
        const beside = await ask(longPrompt(), 2);
        rounds.push(roundOf(await Promise.all(streams), beside, await ask(longPrompt(), 2)));
        onNotice(`round ${rounds.length} of ${count} done`);
      }
      return rounds;
    } finally {
      await server.stop();
    }
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
}

const ttftOf = ({ sentMs, textMs }: Answer): number => textMs[0]! - sentMs;

function roundOf(streams: readonly Answer[], beside: Answer, alone: Answer): GapsRound {
  const gaps = streams.map(({ textMs }) => textMs.slice(1).map((ms, i) => ms - textMs[i]!));
  return {
    medianGapMs: median(gaps.flat()),
    longestGapMs: Math.max(...gaps.flat()),
    gapRatio: Math.max(...gaps.map((ofStream) => Math.max(...ofStream) / median(ofStream))),
    ttftMs: ttftOf(beside),
    ttftAloneMs: ttftOf(alone),
  };
}

/** As Markdown: medians of the rounds. */
export function gapsTable(rounds: readonly GapsRound[]): string {
  const of = (key: keyof GapsRound) => median(rounds.map((round) => round[key]));
  const ms = (key: keyof GapsRound) => `${of(key).toFixed(0)} ms`;
  return [
    '| gap between two tokens, median | longest gap | longest ÷ median of its stream | first token of the prompt | alone |',
    '| --- | --- | --- | --- | --- |',
    `| ${ms('medianGapMs')} | ${ms('longestGapMs')} | ${of('gapRatio').toFixed(1)}× | ${ms('ttftMs')} | ${ms('ttftAloneMs')} |`,
  ].join('\n');
}
