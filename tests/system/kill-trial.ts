/**
 * A server of the tiny model that is asked by several clients and killed, over and over on the same directory.
 *
 * Its disk tier is full from the start and its prompts are more than it holds, so that chunks are written, evicted and
 * promoted at any moment. The moments are drawn from a seed; what they hit depends on the machine, which is the point.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isSameAnswer, type Reply } from '../../bench/client.js';
import { directorySize } from '../../bench/directory-size.js';
import { fillDisk } from '../../bench/filled-disk.js';
import { ServerProcess } from '../../bench/server-process.js';
import { importTiny, TINY } from '../../bench/tiny.js';
import { Workload } from '../../bench/workload.js';
import { type Random, seededRandom } from '../../src/engine/random.js';
import { catalogueProblems } from './catalogue.js';

/** Of about 8,000 different chunks. */
const PROMPTS = 250;
const TRAFFIC = { documents: 3000, conversations: 150 };
const CHUNK_TOKENS = 16;
/** The least that `serve` takes; room for 6,200 chunks. */
const DISK_BYTES = 64 * 1024 ** 2;
const DISK_CHUNKS = 6500;
const CLIENTS = 4;
const MAX_TOKENS = 4;
/** Before a server is killed, at most. */
const ANSWERS_A_LIFE = 24;
/** Of the last server. */
const LAST_ANSWERS = 50;
const ABORTED_SHARE = 0.1;
const ABORT_WITHIN_MS = 40;
const KILLED_WHILE_STARTING_SHARE = 0.35;
/** About as long as a start takes. */
const STARTING_MS = 1200;

interface Tally {
  kills: number;
  killsWhileStarting: number;
  /** Prompt tokens whose KV came from disk. */
  diskTokens: number;
  readonly readyMs: number[];
  /** What starts had to mend and what went wrong on disk, by kind. */
  readonly faults: Record<string, number>;
}

export class KillTrial {
  readonly tally: Tally = { kills: 0, killsWhileStarting: 0, diskTokens: 0, readyMs: [], faults: {} };
  readonly #directory: string;
  readonly #diskDir: string;
  readonly #random: Random;
  readonly #prompts: readonly (readonly number[])[];
  readonly #answers: { readonly prompt: number; readonly reply: Reply }[] = [];
  #server: ServerProcess | undefined;

  /** `directory` is an empty one. */
  constructor(directory: string, seed: number) {
    const workload = new Workload({ seed, ...TRAFFIC });
    this.#directory = directory;
    this.#diskDir = join(directory, 'cache');
    this.#random = seededRandom(seed);
    this.#prompts = Array.from({ length: PROMPTS }, () => workload.next());
  }

  async prepare(): Promise<void> {
    await fillDisk(this.#diskDir, {
      model: await importTiny(join(this.#directory, 'models')),
      chunkTokens: CHUNK_TOKENS,
      chunks: DISK_CHUNKS,
      capacityBytes: DISK_BYTES,
    });
  }

  /** Starts a server and kills it, while it starts or under load, and looks at what it left. */
  async kill(): Promise<void> {
    if (this.#random() < KILLED_WHILE_STARTING_SHARE) {
      this.tally.killsWhileStarting++;
      this.#spawn();
      await delay(this.#random() * STARTING_MS);
    } else await this.#askUntilKilled(await this.#start());
    await this.end();
    this.tally.kills++;
    assert.deepEqual(await catalogueProblems(this.#diskDir), []);
    const size = await directorySize(this.#diskDir);
    assert(size.allocatedBytes <= DISK_BYTES, `${size.allocatedBytes} bytes in ${size.files} files`);
  }

  /** The last one is not killed: its counters add up, and it ends in good order. */
  async survive(): Promise<void> {
    const server = await this.#start();
    let cached = 0;
    for (let answer = 0; answer < LAST_ANSWERS; answer++) {
      const reply = await this.#ask(server);
      cached += reply.cached.device + reply.cached.host + reply.cached.disk;
    }
    await this.#noteFaults(server);
    const stats = await server.stats();
    assert.equal(stats.cached_tokens, cached);
    assert.equal(stats.cached_tokens + stats.computed_tokens, stats.prompt_tokens);
    for (const tier of Object.values(stats.by_tier)) assert(tier.bytes! <= tier.capacity_bytes!);
    assert.equal(await server.stop(), 0);
  }

  /** Compares all answers with those of a server that keeps nothing, each prompt in a namespace of its own. */
  async compare(): Promise<{ readonly answers: number; readonly wrong: number }> {
    const server = this.#spawn({ 'host-bytes': 0, 'disk-bytes': 0 });
    await server.ready();
    const expected = new Map<number, Reply>();
    for (const { prompt } of this.#answers) {
      if (expected.has(prompt)) continue;
      const question = { prompt: this.#prompts[prompt]!, maxTokens: MAX_TOKENS };
      const reply = await server.ask({ ...question, apiKey: `uncached ${prompt}` });
      assert.equal(reply.computedTokens, question.prompt.length);
      expected.set(prompt, reply);
    }
    await this.end();
    const wrong = this.#answers.filter(({ prompt, reply }) => !isSameAnswer(reply, expected.get(prompt)!));
    return { answers: this.#answers.length, wrong: wrong.length };
  }

  /** Kills what runs. */
  async end(): Promise<void> {
    await this.#server?.kill();
  }

  #spawn(flags: Readonly<Record<string, string | number>> = {}): ServerProcess {
    this.#server = new ServerProcess(TINY, {
      'data-dir': this.#directory,
      threads: 1,
      'chunk-tokens': CHUNK_TOKENS,
      'device-bytes': '1MiB',
      'host-bytes': '2MiB',
      'disk-bytes': DISK_BYTES,
      'disk-free-bytes': 0,
      'write-policy': 'write-through',
      // The tiny model computes faster than any disk reads.
      'break-even': 'off',
      ...flags,
    });
    return this.#server;
  }

  async #start(): Promise<ServerProcess> {
    const server = this.#spawn();
    this.tally.readyMs.push(await server.ready());
    return server;
  }

  /** Adds what a server reports at the end of its life. */
  async #noteFaults(server: ServerProcess): Promise<void> {
    const { disk } = await server.stats();
    for (const [kind, count] of Object.entries(disk!.faults))
      this.tally.faults[kind] = (this.tally.faults[kind] ?? 0) + count;
  }

  async #ask(server: ServerProcess, signal?: AbortSignal): Promise<Reply> {
    const prompt = Math.floor(this.#random() * PROMPTS);
    const question = { prompt: this.#prompts[prompt]!, maxTokens: MAX_TOKENS };
    const reply = await server.ask({ ...question, ...(signal && { signal }) });
    this.#answers.push({ prompt, reply });
    this.tally.diskTokens += reply.cached.disk;
    return reply;
  }

  /** Clients ask, and go on asking until the server is killed some moments after a number of answers. */
  async #askUntilKilled(server: ServerProcess): Promise<void> {
    const random = this.#random;
    const killAfter = this.#answers.length + 1 + Math.floor(random() * ANSWERS_A_LIFE);
    const state = { isKilled: false };
    let ending: Promise<void> | undefined;
    const endSoon = async (): Promise<void> => {
      await this.#noteFaults(server);
      await delay(random() * 30);
      state.isKilled = true;
      await server.kill();
    };
    const client = async (): Promise<void> => {
      while (!state.isKilled) {
        const leaves = random() < ABORTED_SHARE;
        const signal = leaves ? AbortSignal.timeout(Math.ceil(random() * ABORT_WITHIN_MS)) : undefined;
        await this.#ask(server, signal).catch((error: unknown) => {
          if (!state.isKilled && !signal?.aborted) throw error;
        });
        if (this.#answers.length >= killAfter) ending ??= endSoon();
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, client));
    await ending;
  }
}
