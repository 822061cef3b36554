/**
 * How long `POST /v1/cache/lookup` takes with a prompt of 4,000 tokens while 32 answers are streamed, as its client sees
 * it, tokenising included: prompts that nobody asked about before, and the same one again and again. Against a server of
 * its own, over its public API.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WeightsOption } from '../src/config/options.js';
import { seededRandom } from '../src/engine/random.js';
import { createTokenizer } from '../src/text/tokenizer.js';
import { cutDocument } from './documents/ask.js';
import { importFor } from './load/servers.js';
import { sentences } from './load/text.js';
import { ServerProcess } from './server-process.js';
import { quantileOf } from './statistics.js';

const STREAMS = 32;
const ANSWER_TOKENS = 256;
const PROMPT_TOKENS = 4000;
const PROMPT_SENTENCES = 300;
/** The answers are under way when the first lookup comes. */
const LEAD_MS = 5000;
/** From an answer to the next lookup. */
const PAUSE_MS = 20;

export interface LookupRow {
  readonly prompt: 'new' | 'the same';
  /** Answers are streamed meanwhile. */
  readonly streams: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface LookupBench {
  readonly rows: readonly LookupRow[];
  /** Of the server's event loop, since its start. */
  readonly loopLagP99Ms: number;
}

export async function lookupBench(options: {
  readonly gguf: string;
  readonly threads: number;
  readonly weights: WeightsOption;
  readonly lookups: number;
  readonly onNotice: (message: string) => void;
}): Promise<LookupBench> {
  const { gguf, threads, weights, lookups, onNotice } = options;
  const dataDir = await mkdtemp(join(tmpdir(), 'radixkv-lookup-'));
  try {
    const model = await importFor(dataDir, gguf, weights);
    const tokenizer = await createTokenizer(model.directory);
    const random = seededRandom(5);
    const prompts = Array.from(
      { length: lookups },
      () => cutDocument(tokenizer, sentences(random, PROMPT_SENTENCES), PROMPT_TOKENS).document.text,
    );
    const flags = { 'data-dir': dataDir, threads, weights, 'max-active': STREAMS };
    const server = await ServerProcess.start(model.name, flags);
    try {
      const post = (path: string, body: object, signal?: AbortSignal) =>
        fetch(new URL(path, server.url), {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ model: model.name, ...body }),
          ...(signal && { signal }),
        });
      const look = async (text: string) => {
        const startedAt = performance.now();
        const response = await post('/v1/cache/lookup', { messages: [{ role: 'user', content: text }] });
        await response.arrayBuffer();
        if (response.status !== 200) throw new Error(`the lookup was answered with ${response.status}`);
        return performance.now() - startedAt;
      };
      const rowOf = async (prompt: LookupRow['prompt'], streams: number): Promise<LookupRow> => {
        const times: number[] = [];
        for (const text of prompts) {
          times.push(await look(prompt === 'new' ? text : prompts[0]!));
          await sleep(PAUSE_MS);
        }
        onNotice(`${prompt} prompts beside ${streams} streams done`);
        const [p50Ms, p99Ms, maxMs] = [0.5, 0.99, 1].map((share) => quantileOf(times, share));
        return { prompt, streams, p50Ms: p50Ms!, p99Ms: p99Ms!, maxMs: maxMs! };
      };
      const rows = [await rowOf('new', 0), await rowOf('the same', 0)];
      const end = new AbortController();
      const streams = Array.from({ length: STREAMS }, async (_, i) => {
        for (let round = 0; !end.signal.aborted; round++) {
          const content = `${sentences(random, 1)} ${i} ${round}`;
          const body = { messages: [{ role: 'user', content }], max_tokens: ANSWER_TOKENS, stream: true };
          const answer = post('/v1/chat/completions', body, end.signal);
          try {
            await (await answer).arrayBuffer();
          } catch (error) {
            if (!end.signal.aborted) throw error;
          }
        }
      });
      await sleep(LEAD_MS);
      rows.push(await rowOf('new', STREAMS), await rowOf('the same', STREAMS));
      end.abort();
      await Promise.all(streams);
      const metrics = await (await fetch(new URL('/metrics', server.url))).text();
      const lag = Number(/^nodejs_eventloop_lag_p99_seconds (\S+)$/m.exec(metrics)?.[1]);
      return { rows, loopLagP99Ms: lag * 1000 };
    } finally {
      await server.stop();
    }
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
}

const ms = (value: number): string => `${value.toFixed(1)} ms`;

/** As Markdown. */
export function lookupTable({ rows, loopLagP99Ms }: LookupBench): string {
  return [
    '| prompt of 4,000 tokens | streams beside it | p50 | p99 | longest |',
    '| --- | --- | --- | --- | --- |',
    ...rows.map(
      ({ prompt, streams, p50Ms, p99Ms, maxMs }) =>
        `| ${prompt} | ${streams} | ${ms(p50Ms)} | ${ms(p99Ms)} | ${ms(maxMs)} |`,
    ),
    '',
    `Lag of the server's event loop, p99 of the last seconds: ${ms(loopLagP99Ms)}.`,
  ].join('\n');
}
