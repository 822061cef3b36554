/**
 * Many chats at the same time, under one long system prompt, as clients of our server see them and as clients of
 * llama.cpp's server do: `npm run bench -- load`.
 *
 * The servers take turns, each in a new process that has cached nothing. The same client drives both over HTTP. Every
 * answer has the same number of tokens, and both get the same messages at the same pace; what a chat goes on with is
 * each server's own answer.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { WeightsOption } from '../src/config/options.js';
import { seededRandom } from '../src/engine/random.js';
import { createTokenizer } from '../src/text/tokenizer.js';
import { cutDocument } from './documents/ask.js';
import { type LoadShape, planChats } from './load/chats.js';
import { drive } from './load/drive.js';
import { type LoadMeasures, loadMeasures } from './load/measures.js';
import {
  importFor,
  type LoadServer,
  llamaServerFlags,
  llamaServerVersion,
  startLlamaServer,
  startOurs,
} from './load/servers.js';
import { sentences } from './load/text.js';
import { pairedRatio, type Spread, spread } from './statistics.js';
import { digits } from './table.js';

const OURS = 'radixkv';
const PEER = 'llama.cpp';
const SHAPE: LoadShape = {
  clients: 32,
  turns: 3,
  gapMs: 750,
  thinkMs: { min: 500, max: 1500 },
  seed: 1,
};
const QUICK_SHAPE: LoadShape = { ...SHAPE, clients: 6, turns: 2 };
const SYSTEM_TOKENS = 1500;
const ANSWER_TOKENS = 64;
/** More than enough for the system prompt. */
const SYSTEM_SENTENCES = 100;

/** What is compared, and how it is shown. */
const ROWS = [
  ['output', 'outputTokensPerSecond', 'tok/s'],
  ['TTFT p50', 'ttftP50Ms', 'ms'],
  ['TTFT p95', 'ttftP95Ms', 'ms'],
  ['TPOT p50', 'tpotP50Ms', 'ms'],
  ['TPOT p95', 'tpotP95Ms', 'ms'],
  ['longest gap p95', 'gapP95Ms', 'ms'],
] as const satisfies readonly (readonly [string, keyof LoadMeasures, string])[];

export interface LoadOptions {
  readonly gguf: string;
  readonly threads: number;
  readonly weights: WeightsOption;
  /** Name or path of llama.cpp's server. */
  readonly llamaServer: string;
  /** Chats that it answers at the same time. */
  readonly slots: number;
  readonly rounds: number;
  readonly quick: boolean;
  readonly onNotice: (message: string) => void;
}

/** By the name of a server. */
type Round = Readonly<Record<string, LoadMeasures>>;

export interface LoadResult {
  readonly peer?: Readonly<Record<string, string | number | boolean>>;
  readonly measures: {
    readonly weights: WeightsOption;
    readonly shape: LoadShape;
    readonly systemTokens: number;
    readonly answerTokens: number;
    readonly rounds: readonly Round[];
  };
}

export async function loadBench(options: LoadOptions): Promise<LoadResult> {
  const { gguf, threads, weights, llamaServer, slots, quick, onNotice } = options;
  const dataDir = await mkdtemp(join(tmpdir(), 'radixkv-load-'));
  try {
    const model = await importFor(dataDir, gguf, weights);
    const servers = new Map([[OURS, () => startOurs({ model: model.name, dataDir, threads, weights })]]);
    const version = llamaServerVersion(llamaServer);
    const flags = llamaServerFlags({ slots, threads });
    if (version === undefined) onNotice(`there is no ${llamaServer}: no peer`);
    else servers.set(PEER, () => startLlamaServer(llamaServer, { gguf, flags }));

    const shape = quick ? QUICK_SHAPE : SHAPE;
    const tokenizer = await createTokenizer(model.directory);
    const text = sentences(seededRandom(shape.seed + 1), SYSTEM_SENTENCES);
    const traffic = {
      chats: planChats(shape),
      system: cutDocument(tokenizer, text, SYSTEM_TOKENS).document.text,
      tokens: ANSWER_TOKENS,
      endTokens: tokenizer.endTokens,
    };
    const rounds = await runRounds(servers, traffic, options);
    return {
      ...(version !== undefined && { peer: { llamaServer: version, flags: flags.join(' ') } }),
      measures: { weights, shape, systemTokens: SYSTEM_TOKENS, answerTokens: ANSWER_TOKENS, rounds },
    };
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
}

/** One server after the other, in turned order each time. */
async function runRounds(
  servers: ReadonlyMap<string, () => Promise<LoadServer>>,
  traffic: Parameters<typeof drive>[1],
  { rounds, onNotice }: LoadOptions,
): Promise<Round[]> {
  const done: Round[] = [];
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? [...servers] : [...servers].toReversed();
    const measures: [string, LoadMeasures][] = [];
    for (const [name, start] of order) {
      const server = await start();
      try {
        measures.push([name, loadMeasures((await drive(server, traffic)).flat())]);
      } finally {
        await server.stop();
      }
      onNotice(`round ${round + 1} of ${rounds}, ${name}: done`);
    }
    done.push(Object.fromEntries(measures));
  }
  return done;
}

/** As Markdown: medians of the rounds, and our value ÷ the peer's of each round. */
export function loadTable({ measures: { rounds } }: LoadResult): string {
  const lines = ROWS.map(([title, key, unit]) => {
    const [ours, peer] = [OURS, PEER].map((name) => rounds.flatMap((round) => round[name]?.[key] ?? []));
    const cells = [ours!, peer!].map((values) =>
      values.length > 0 ? `${digits(spread(values).median)} ${unit}` : '–',
    );
    return [title, ...cells, peer!.length > 0 ? ratioCell(pairedRatio(ours!, peer!)) : '–'];
  });
  return [['', OURS, PEER, `${OURS} ÷ ${PEER}`], ['---', '---', '---', '---'], ...lines]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}

function ratioCell({ median, min, max }: Spread): string {
  return `${digits(median)}× (${digits(min)}–${digits(max)})`;
}
