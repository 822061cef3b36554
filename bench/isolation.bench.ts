/**
 * Whether time tells a tenant what another one asked: first tokens of prompts that another tenant has in the cache, beside
 * those of prompts that nobody asked, and, to show that the measurement can tell, of one's own. Over HTTP with keys; the
 * tiny model, whose prefill is so quick that a slip of a millisecond would show.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Random, seededRandom } from '../src/engine/random.js';
import { KEYS_FILE, KeyFile } from '../src/tenants/key-file.js';
import { ServerProcess } from './server-process.js';
import { bootstrap, earlierShare, median } from './statistics.js';
import { digits } from './table.js';
import { importTiny, TINY } from './tiny.js';

const PROMPT_TOKENS = 1500;
const SEED = 7;
/** Byte tokens of the tiny model. */
const BYTE_TOKENS = 256;

const KINDS = ['probe', 'cold', 'own'] as const;
type Kind = (typeof KINDS)[number];
type Tokens = readonly number[];

/** What a guess by time is worth: the share of pairs in which the first is the earlier one. 0.5: nothing. */
interface Guess {
  readonly share: number;
  /** 5–95 %, over prompts. */
  readonly interval: readonly [number, number];
}

export interface IsolationRow {
  /** Where the other tenant's rows are. */
  readonly tier: 'memory' | 'disk';
  readonly prompts: number;
  readonly medianMs: Readonly<Record<Kind, number>>;
  /** A prompt of another tenant beside one that nobody asked. */
  readonly probe: Guess;
  /** One's own beside one that nobody asked. */
  readonly own: Guess;
}

/** Asks `prompts` prompts of each kind in random order, once from memory and once after a restart. */
export async function isolationBench(prompts: number): Promise<IsolationRow[]> {
  const place = await mkdtemp(join(tmpdir(), 'radixkv-isolation-'));
  try {
    await importTiny(join(place, 'models'));
    const file = KeyFile.open(join(place, KEYS_FILE));
    const [victim, other] = ['victim', 'other'].map((tenant) =>
      file.createKey({ tenant, role: 'user' }, Date.now()),
    );
    file.close();
    const random = seededRandom(SEED);
    const rows: IsolationRow[] = [];
    for (const tier of ['memory', 'disk'] as const) {
      const known = Array.from({ length: prompts }, () => newPrompt(random));
      let server = await start(place);
      try {
        for (const prompt of known) await server.ask({ prompt, maxTokens: 1, apiKey: victim! });
        if (tier === 'disk') {
          await server.stop();
          server = await start(place);
        }
        rows.push(await measure(server, { tier, known, random, victim: victim!, other: other! }));
      } finally {
        await server.kill();
      }
    }
    return rows;
  } finally {
    await rm(place, { recursive: true, force: true });
  }
}

const start = (place: string): Promise<ServerProcess> =>
  ServerProcess.start(TINY, {
    'data-dir': place,
    threads: 1,
    'device-bytes': '512MiB',
    'host-bytes': '512MiB',
    'disk-free-bytes': 0,
    'break-even': 'off',
  });

const newPrompt = (random: Random): Tokens =>
  Array.from({ length: PROMPT_TOKENS }, () => Math.floor(random() * BYTE_TOKENS));

async function measure(
  server: ServerProcess,
  options: {
    readonly tier: IsolationRow['tier'];
    readonly known: readonly Tokens[];
    readonly random: Random;
    readonly victim: string;
    readonly other: string;
  },
): Promise<IsolationRow> {
  const { tier, known, random, victim, other } = options;
  const turns = known.flatMap((prompt) => [
    { kind: 'probe' as const, prompt, apiKey: other },
    { kind: 'cold' as const, prompt: newPrompt(random), apiKey: other },
    { kind: 'own' as const, prompt, apiKey: victim },
  ]);
  const ms: Record<Kind, number[]> = { probe: [], cold: [], own: [] };
  for (const { kind, prompt, apiKey } of shuffled(turns, random)) {
    const { wallMs, cached } = await server.ask({ prompt, maxTokens: 1, apiKey });
    // Prompts of one tenant may have their first few tokens in common.
    const isHit = cached.device + cached.host + cached.disk > PROMPT_TOKENS / 2;
    assert.equal(isHit, kind === 'own', `${kind} in ${tier}`);
    ms[kind].push(wallMs);
  }
  return {
    tier,
    prompts: known.length,
    medianMs: { probe: median(ms.probe), cold: median(ms.cold), own: median(ms.own) },
    probe: guess(ms.probe, ms.cold),
    own: guess(ms.own, ms.cold),
  };
}

function share(pairs: readonly (readonly [number, number])[]): number {
  return earlierShare(
    pairs.map(([first]) => first),
    pairs.map(([, second]) => second),
  );
}

function guess(first: readonly number[], second: readonly number[]): Guess {
  const pairs = first.map((value, i) => [value, second[i]!] as const);
  return { share: share(pairs), interval: bootstrap(pairs, share) };
}

function shuffled<T>(items: readonly T[], random: Random): T[] {
  const keyed = items.map((item) => [random(), item] as const);
  return keyed.sort(([a], [b]) => a - b).map(([, item]) => item);
}

function cell({ share: earlier, interval: [low, high] }: Guess): string {
  return `${earlier.toFixed(3)} (${low.toFixed(3)}–${high.toFixed(3)})`;
}

export function isolationTable(rows: readonly IsolationRow[]): string {
  const lines = rows.map(({ tier, prompts, medianMs, probe, own }) => {
    const times = KINDS.map((kind) => `${digits(medianMs[kind])} ms`);
    return `| ${[tier, prompts, ...times, cell(probe), cell(own)].join(' | ')} |`;
  });
  return [
    "| the other tenant's rows | prompts | its prompt | a new prompt | own prompt | its prompt earlier | own earlier |",
    '|---|---|---|---|---|---|---|',
    ...lines,
  ].join('\n');
}
