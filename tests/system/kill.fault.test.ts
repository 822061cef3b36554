/**
 * A real `kill -9`, again and again: of a server under load and of one that is starting. What it serves afterwards must
 * be what a server without a cache answers, and its catalogue readable.
 *
 * Budgets are far below the working set, so that chunks are written, evicted and promoted at any moment. The moments are
 * drawn from a seed; what they hit depends on the machine, which is the point.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { CacheStats, Reply } from '../../bench/client.js';
import { directorySize } from '../../bench/directory-size.js';
import { ServerProcess } from '../../bench/server-process.js';
import { median } from '../../bench/statistics.js';
import { importTiny, TINY } from '../../bench/tiny.js';
import { Workload } from '../../bench/workload.js';
import { type Random, seededRandom } from '../../src/engine/random.js';
import { catalogueProblems } from './catalogue.js';

const SEED = 20_261_125;
const KILLS = 30;
const KILLED_WHILE_STARTING_SHARE = 0.35;
/** About as long as a start takes. */
const STARTING_MS = 1200;
const CLIENTS = 4;
/** Of 11,500 different chunks, about twice what the disk tier holds. */
const PROMPTS = 400;
const TRAFFIC = { seed: SEED, documents: 3000, conversations: 150 };
/** The last server is asked one in so many. */
const SURVIVOR_STEP = 4;
const MAX_TOKENS = 4;
/** Before a server is killed, at most. */
const ANSWERS_A_LIFE = 24;
const ABORTED_SHARE = 0.1;
const ABORT_WITHIN_MS = 40;
/** The least that `serve` takes. */
const DISK_BYTES = 64 * 1024 ** 2;
/** Generous: other tests may run beside. What is promised of a quiet machine is measured by the benchmarks. */
const READY_WITHIN_MS = 15_000;

interface Tally {
  kills: number;
  killsWhileStarting: number;
  answers: number;
  wrong: number;
  /** Prompt tokens whose KV came from disk. */
  diskTokens: number;
  readonly readyMs: number[];
  /** What starts had to mend and what went wrong on disk, by kind. */
  readonly faults: Record<string, number>;
}

test(`after ${KILLS} kills at random moments, no answer is wrong and the catalogue is readable`, {
  timeout: 300_000,
}, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-kill-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  await importTiny(join(directory, 'models'));
  const trial = new Trial(directory);
  t.after(() => trial.end());
  await trial.prepare();
  await trial.fillDisk();
  while (trial.tally.kills < KILLS) await trial.kill();
  await trial.survive();

  const { kills, killsWhileStarting, answers, wrong, diskTokens, readyMs, faults } = trial.tally;
  t.diagnostic(
    `${kills} kills, ${killsWhileStarting} of them while starting; ${answers} answers compared, ${wrong} wrong`,
  );
  t.diagnostic(`${diskTokens} prompt tokens from disk; ready after ${Math.round(median(readyMs))} ms`);
  t.diagnostic(JSON.stringify(faults));
  assert.equal(wrong, 0);
  assert(diskTokens > 0, 'what was written before a kill is used after it');
  assert(Math.max(...readyMs) < READY_WITHIN_MS);
  assert.equal(faults.catalogues_rebuilt, 0);
  assert.equal(faults.reads_corrupt, 0);
});

class Trial {
  readonly tally: Tally = {
    kills: 0,
    killsWhileStarting: 0,
    answers: 0,
    wrong: 0,
    diskTokens: 0,
    readyMs: [],
    faults: {},
  };
  readonly #random: Random = seededRandom(SEED);
  readonly #flags: Readonly<Record<string, string | number>>;
  readonly #diskDir: string;
  readonly #prompts: readonly (readonly number[])[];
  /** Of each prompt, by a server that keeps nothing. */
  readonly #expected: Reply[] = [];
  #server: ServerProcess | undefined;

  constructor(directory: string) {
    const workload = new Workload(TRAFFIC);
    this.#prompts = Array.from({ length: PROMPTS }, () => workload.next());
    this.#diskDir = join(directory, 'cache');
    this.#flags = {
      'data-dir': directory,
      threads: 1,
      'chunk-tokens': 16,
      'device-bytes': '1MiB',
      'host-bytes': '512KiB',
      'disk-bytes': DISK_BYTES,
      'disk-free-bytes': 0,
      'write-policy': 'write-through',
      // The tiny model computes faster than any disk reads.
      'break-even': 'off',
    };
  }

  /** Has everything answered by a server that keeps nothing, each prompt in a namespace of its own. */
  async prepare(): Promise<void> {
    const server = this.#spawn({ 'host-bytes': 0, 'disk-bytes': 0 });
    await server.ready();
    for (const [index, prompt] of this.#prompts.entries()) {
      const reply = await server.ask({ prompt, maxTokens: MAX_TOKENS, apiKey: `uncached ${index}` });
      assert.equal(reply.computedTokens, prompt.length);
      this.#expected.push(reply);
    }
    await server.kill();
  }

  /** Asks everything once, so that from now on what is written evicts something. */
  async fillDisk(): Promise<void> {
    const server = await this.#start();
    await this.#askEvery(1, server);
    assert(isFull(await server.stats()), 'the disk tier is full');
    await this.#killed(server);
  }

  /** Starts a server and kills it: while it starts, or under load. */
  async kill(): Promise<void> {
    if (this.#random() >= KILLED_WHILE_STARTING_SHARE) return this.#killUnderLoad(await this.#start());
    const server = this.#spawn();
    await delay(this.#random() * STARTING_MS);
    this.tally.killsWhileStarting++;
    await this.#killed(server);
  }

  /** The last one is not killed: its answers are right, its counters add up, and it ends in good order. */
  async survive(): Promise<void> {
    const server = await this.#start();
    const cached = await this.#askEvery(SURVIVOR_STEP, server);
    const stats = await server.stats();
    assert.equal(stats.cached_tokens, cached);
    assert.equal(stats.cached_tokens + stats.computed_tokens, stats.prompt_tokens);
    for (const tier of Object.values(stats.by_tier)) assert(tier.bytes! <= tier.capacity_bytes!);
    assert.equal(await server.stop(), 0);
  }

  /** Leaves no process. */
  async end(): Promise<void> {
    await this.#server?.kill();
  }

  #spawn(flags: Readonly<Record<string, string | number>> = {}): ServerProcess {
    this.#server = new ServerProcess(TINY, { ...this.#flags, ...flags });
    return this.#server;
  }

  async #start(): Promise<ServerProcess> {
    const server = this.#spawn();
    this.tally.readyMs.push(await server.ready());
    const { disk } = await server.stats();
    for (const [kind, count] of Object.entries(disk!.faults))
      this.tally.faults[kind] = (this.tally.faults[kind] ?? 0) + count;
    return server;
  }

  /** Asks every `step`th prompt. @returns how many of their tokens were cached. */
  async #askEvery(step: number, server: ServerProcess): Promise<number> {
    let cached = 0;
    for (let index = 0; index < PROMPTS; index += step) {
      const reply = await this.#ask(server, index);
      cached += reply.cached.device + reply.cached.host + reply.cached.disk;
    }
    return cached;
  }

  async #ask(server: ServerProcess, index: number, signal?: AbortSignal): Promise<Reply> {
    const question = { prompt: this.#prompts[index]!, maxTokens: MAX_TOKENS };
    const reply = await server.ask({ ...question, ...(signal && { signal }) });
    this.tally.answers++;
    this.tally.diskTokens += reply.cached.disk;
    if (!isSame(reply, this.#expected[index]!)) this.tally.wrong++;
    return reply;
  }

  /** Clients ask until the server is killed, some moments after a number of answers. */
  async #killUnderLoad(server: ServerProcess): Promise<void> {
    const random = this.#random;
    const killAfter = this.tally.answers + 1 + Math.floor(random() * ANSWERS_A_LIFE);
    let killed: Promise<void> | undefined;
    const client = async (): Promise<void> => {
      while (killed === undefined) {
        const leaves = random() < ABORTED_SHARE;
        const signal = leaves ? AbortSignal.timeout(Math.ceil(random() * ABORT_WITHIN_MS)) : undefined;
        await this.#ask(server, Math.floor(random() * PROMPTS), signal).catch((error: unknown) => {
          if (killed === undefined && !signal?.aborted) throw error;
        });
        if (this.tally.answers >= killAfter) killed ??= delay(random() * 30).then(() => this.#killed(server));
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, client));
    await killed;
  }

  /** Ends a server, and looks at what it left. */
  async #killed(server: ServerProcess): Promise<void> {
    await server.kill();
    this.tally.kills++;
    assert.deepEqual(await catalogueProblems(this.#diskDir), []);
    const size = await directorySize(this.#diskDir);
    assert(size.allocatedBytes <= DISK_BYTES, `${size.allocatedBytes} bytes in ${size.files} files`);
  }
}

const isFull = ({ by_tier }: CacheStats): boolean =>
  by_tier.disk.bytes! > 0.95 * by_tier.disk.capacity_bytes!;

const isSame = (a: Reply, b: Reply): boolean => a.text === b.text && a.logprobs.join() === b.logprobs.join();
