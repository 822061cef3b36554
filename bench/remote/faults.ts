/**
 * A node under load while its Redis is killed, frozen, filled, started again empty, or cut off, over the tiny model:
 * which requests failed or were answered otherwise than without a remote tier, how long first tokens took, and how long
 * after the end of the fault the node used it again.
 *
 * The node's memory holds a few prompts only, so that most prompts come from Redis as long as it is there; a third of
 * them is new. What a first token takes without a remote tier is measured by the same load before.
 */
import assert from 'node:assert/strict';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { Ending } from '../ending.js';
import { RedisServer } from '../redis-server.js';
import { ServerProcess } from '../server-process.js';
import { TINY } from '../tiny.js';
import { cutRedis } from './network.js';

const PROMPTS = 24;
const PROMPT_TOKENS = 1500;
const CLIENTS = 3;
const DEADLINE_MS = 500;
/** Longest wait for the node to use Redis again. */
const RECOVERY_MS_MAX = 60_000;

export interface FaultRow {
  readonly fault: string;
  readonly requests: number;
  readonly failed: number;
  readonly wrong: number;
  /** Of requests with one token of answer, as the client sees them. */
  readonly p95Ms: number;
  /** The same load without a remote tier. */
  readonly coldP95Ms: number;
  readonly deadlineMs: number;
  /** From the end of the fault. */
  readonly recoveryMs: number;
  /** Prompt tokens that came from Redis before, while and after. */
  readonly remoteTokens: number;
}

interface Fault {
  readonly name: string;
  /** It ends as soon as it has begun. */
  readonly isMoment?: boolean;
  begin(redis: RedisServer): unknown;
  end(redis: RedisServer): unknown;
}

const FAULTS: readonly Fault[] = [
  { name: 'killed', begin: (redis) => redis.kill(), end: (redis) => redis.begin() },
  {
    name: 'restarted, empty',
    isMoment: true,
    begin: (redis) => redis.kill(),
    end: (redis) => redis.begin(),
  },
  {
    name: 'frozen (SIGSTOP)',
    begin: (redis) => redis.signal('SIGSTOP'),
    end: (redis) => redis.signal('SIGCONT'),
  },
  {
    name: 'filled (maxmemory)',
    begin: (redis) => redis.ask('CONFIG', 'SET', 'maxmemory', '1mb'),
    end: (redis) => redis.ask('CONFIG', 'SET', 'maxmemory', '0'),
  },
];

/** Answers by prompt, of a node without a remote tier. */
type Truth = ReadonlyMap<number, string>;

/** `models` has the tiny model; each phase of a fault (before, while, after) takes `phaseMs`. */
export async function remoteFaults(
  flags: Readonly<Record<string, string | number>>,
  phaseMs: number,
  onNotice: (message: string) => void,
): Promise<FaultRow[]> {
  const common = {
    ...flags,
    'disk-bytes': 0,
    'host-bytes': '2MiB',
    'device-bytes': '2MiB',
    'max-active': 2,
    'remote-deadline-ms': DEADLINE_MS,
  };
  const plain = await ServerProcess.start(TINY, common);
  const truth = new Map<number, string>();
  for (let i = 0; i < PROMPTS; i++) {
    truth.set(i, (await plain.ask({ prompt: prompt(i), maxTokens: 1 })).text);
  }
  const cold = new Load(plain, truth);
  await sleep(phaseMs);
  const { p95Ms: coldP95Ms } = await cold.end();
  await plain.kill();
  const rows: FaultRow[] = [];
  const measure = async (fault: Fault, redis: RedisServer, url: string): Promise<void> => {
    const server = await ServerProcess.start(TINY, { ...common, remote: url });
    try {
      for (const i of truth.keys()) await server.ask({ prompt: prompt(i), maxTokens: 1 });
      const load = new Load(server, truth);
      await sleep(phaseMs);
      await fault.begin(redis);
      if (fault.isMoment !== true) await sleep(phaseMs);
      await fault.end(redis);
      const recoveryMs = await recovered(server);
      await sleep(phaseMs);
      const result = await load.end();
      rows.push({ fault: fault.name, ...result, coldP95Ms, deadlineMs: DEADLINE_MS, recoveryMs });
      onNotice(`${fault.name} done`);
    } finally {
      await server.kill();
    }
  };
  for (const fault of FAULTS) {
    const ending = new Ending();
    try {
      const redis = await RedisServer.start(ending);
      await measure(fault, redis, redis.url);
    } finally {
      await ending.end();
    }
  }
  const ending = new Ending();
  try {
    const { redis, url, kind, cut, mend } = await cutRedis(ending);
    await measure({ name: `network cut (${kind})`, begin: cut, end: mend }, redis, url);
  } finally {
    await ending.end();
  }
  return rows;
}

function prompt(i: number): number[] {
  return Array.from({ length: PROMPT_TOKENS }, (_, at) => (at < 4 ? (i >> (4 * at)) & 15 : at * 7 + i) % 256);
}

async function recovered(server: ServerProcess): Promise<number> {
  const startedAt = performance.now();
  for (;;) {
    const ms = performance.now() - startedAt;
    const { remote } = await server.stats();
    if (remote?.state === 'closed' && !remote.writing_paused) return ms;
    assert(ms < RECOVERY_MS_MAX, 'the remote tier is used again');
    await sleep(50);
  }
}

/** Some clients that ask one prompt after another until they are told to stop. */
class Load {
  readonly #server: ServerProcess;
  readonly #truth: Truth;
  readonly #clients: Promise<void>[];
  readonly #ms: number[] = [];
  #asked = 0;
  #failed = 0;
  #wrong = 0;
  #remoteTokens = 0;
  #isOver = false;

  constructor(server: ServerProcess, truth: Truth) {
    this.#server = server;
    this.#truth = truth;
    this.#clients = Array.from({ length: CLIENTS }, () => this.#client());
  }

  async end() {
    this.#isOver = true;
    await Promise.all(this.#clients);
    const sorted = this.#ms.toSorted((a, b) => a - b);
    return {
      requests: this.#asked,
      failed: this.#failed,
      wrong: this.#wrong,
      p95Ms: sorted[Math.min(sorted.length - 1, Math.floor(0.95 * sorted.length))] ?? 0,
      remoteTokens: this.#remoteTokens,
    };
  }

  async #client(): Promise<void> {
    while (!this.#isOver) {
      const turn = this.#asked++;
      const which = (turn * 7) % PROMPTS;
      try {
        const reply = await this.#server.ask({
          prompt: prompt(which),
          maxTokens: 1,
          // A tenant whom nobody knows has nothing cached.
          ...(turn % 3 === 0 && { apiKey: `new ${turn}` }),
        });
        this.#ms.push(reply.wallMs);
        this.#remoteTokens += reply.cached.remote;
        if (reply.text !== this.#truth.get(which)) this.#wrong++;
      } catch {
        this.#failed++;
      }
    }
  }
}
