/**
 * The whole server for minutes, under traffic whose working set is many times what the tiers may hold: prompts that
 * share prefixes, clients that go away, and now and then an answer compared with an uncached one.
 *
 * Server, client and disk tier are one process, over HTTP on the loopback interface, so that leases can be counted and
 * the memory is all there is. The tiny model leaves most of the time to the cache.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { createApp } from '../src/api/app.js';
import { startServer } from '../src/api/server.js';
import type { DiskOptions } from '../src/cache/create-tiers.js';
import { parseServeOptions } from '../src/config/options.js';
import { type Backend, createBackend } from '../src/server.js';
import { ask, cacheStats, isSameAnswer, type Reply } from './client.js';
import { directorySize } from './directory-size.js';
import { settledBytes } from './settled.js';
import type { SoakPause, SoakRecord, SoakSample } from './soak-verdict.js';
import { importTiny, TINY } from './tiny.js';
import { Workload } from './workload.js';

/** About 19,000 chunks, ten times what the disk tier can hold, and new conversations all the time. */
const WORKING_SET = { documents: 400, conversations: 40 };
const OPTIONS = {
  deviceBytes: '1.5MiB',
  hostBytes: '2MiB',
  chunkTokens: '16',
  threads: '1',
  // The tiny model computes faster than any disk reads.
  breakEven: 'off',
};
/** Less than `serve` lets one choose: room for about 1,800 chunks beside 8 MiB for an empty directory. */
const DISK_BYTES = 24 * 1024 ** 2;
const CLIENTS = 4;
const MAX_TOKENS = 4;
const ABORTED_SHARE = 0.1;
const ABORT_WITHIN_MS = 60;
/** One answer in so many is compared. */
const COMPARE_EVERY = 20;
/** Stretches of traffic; after each nothing may be left. */
const STRETCHES = 10;
const SAMPLE_MS = 1000;
/** What still holds a lease this long after the last answer has leaked it. */
const QUIET_WITHIN_MS = 5000;
const POLL_MS = 20;

export interface SoakOptions {
  readonly seconds: number;
  readonly seed: number;
  /** Budget of the disk tier's directory; 24 MiB when not given. */
  readonly diskBytes?: number;
  readonly onNotice?: (message: string) => void;
}

/** Runs a server in a temporary directory and reports what was seen; judge it with `judge`. */
export async function soak(soakOptions: SoakOptions): Promise<SoakRecord> {
  const { seconds, seed, diskBytes = DISK_BYTES, onNotice = () => {} } = soakOptions;
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-soak-'));
  const options = parseServeOptions({ dataDir: directory, ...OPTIONS });
  const disk = {
    directory: options.diskDir,
    capacityBytes: diskBytes,
    freeBytesMin: 0,
    codec: options.diskCodec,
  };
  const backend = await createBackend({
    ...options,
    disk,
    modelDirectory: await importTiny(options.modelsDir),
  });
  const app = createApp({ service: backend.service, statistics: backend.statistics });
  const server = await startServer({ app, host: '127.0.0.1', port: 0, shutdownTimeoutMs: 1000 });
  try {
    const run = new Soak(server.url, backend, disk);
    return await run.run(seconds, new Workload({ seed, ...WORKING_SET }), onNotice);
  } finally {
    await server.close();
    await backend.close();
    await rm(directory, { recursive: true, force: true });
  }
}

class Soak {
  readonly #url: string;
  readonly #backend: Backend;
  readonly #disk: DiskOptions;
  readonly #start = performance.now();
  readonly #samples: SoakSample[] = [];
  readonly #pauses: SoakPause[] = [];
  readonly #counts = { answers: 0, aborted: 0, compared: 0, wrong: 0 };

  constructor(url: string, backend: Backend, disk: DiskOptions) {
    this.#url = url;
    this.#backend = backend;
    this.#disk = disk;
  }

  async run(seconds: number, workload: Workload, onNotice: (message: string) => void): Promise<SoakRecord> {
    const sampling = new AbortController();
    const sampled = this.#sampleUntil(
      sampling.signal,
      Math.min(SAMPLE_MS, (seconds * 1000) / (4 * STRETCHES)),
    );
    for (let stretch = 1; stretch <= STRETCHES; stretch++) {
      const end = this.#start + (seconds * 1000 * stretch) / STRETCHES;
      await Promise.all(Array.from({ length: CLIENTS }, () => this.#client(workload, end)));
      this.#pauses.push(await this.#pause());
      onNotice(`${Math.round(this.#seconds)} s: ${this.#counts.answers} answers`);
    }
    sampling.abort();
    await sampled;
    return { seconds: this.#seconds, samples: this.#samples, pauses: this.#pauses, ...this.#counts };
  }

  get #seconds(): number {
    return (performance.now() - this.#start) / 1000;
  }

  async #client(workload: Workload, end: number): Promise<void> {
    const { random } = workload;
    while (performance.now() < end) {
      const prompt = workload.next();
      const leaves = random() < ABORTED_SHARE;
      const leaving = leaves ? { signal: AbortSignal.timeout(Math.ceil(random() * ABORT_WITHIN_MS)) } : {};
      const reply = await this.#ask(prompt, leaving).catch((error: unknown) => {
        if (!leaving.signal?.aborted) throw error;
      });
      if (reply === undefined) {
        this.#counts.aborted++;
        continue;
      }
      if (++this.#counts.answers % COMPARE_EVERY === 0) await this.#compare(prompt, reply);
    }
  }

  #ask(prompt: readonly number[], rest: { signal?: AbortSignal; apiKey?: string }): Promise<Reply> {
    return ask(this.#url, TINY, { prompt, maxTokens: MAX_TOKENS, ...rest });
  }

  /** Asks again in a namespace of its own, where nothing is cached. */
  async #compare(prompt: readonly number[], reply: Reply): Promise<void> {
    const uncached = await this.#ask(prompt, { apiKey: `compared ${this.#counts.compared++}` });
    assert.equal(uncached.computedTokens, uncached.promptTokens);
    if (!isSameAnswer(reply, uncached)) this.#counts.wrong++;
  }

  async #sampleUntil(signal: AbortSignal, everyMs: number): Promise<void> {
    while (!signal.aborted) {
      this.#samples.push(await this.#sample());
      await sleep(everyMs, undefined, { signal }).catch(() => {});
    }
    this.#samples.push(await this.#sample());
  }

  async #sample(): Promise<SoakSample> {
    const { directory, capacityBytes } = this.#disk;
    const [stats, size] = await Promise.all([cacheStats(this.#url), directorySize(directory)]);
    // Those that this server has.
    const tiers = Object.entries(stats.by_tier).filter(([, { capacity_bytes }]) => capacity_bytes !== null);
    const budgets = tiers.map(([name, tier]) => [
      name,
      { bytes: tier.bytes ?? 0, capacityBytes: tier.capacity_bytes ?? 0 },
    ]);
    return {
      seconds: this.#seconds,
      budgets: {
        ...Object.fromEntries(budgets),
        'disk directory': { bytes: size.allocatedBytes, capacityBytes },
      },
      rssBytes: process.memoryUsage.rss(),
      promptTokens: stats.prompt_tokens,
      cachedTokens: Object.fromEntries(tiers.map(([name, tier]) => [name, tier.cached_tokens])),
    };
  }

  /** What is left when all answers are given and the engine has nothing to do. */
  async #pause(): Promise<SoakPause> {
    const { scheduler, cache } = this.#backend;
    await scheduler.idle();
    const patience = performance.now() + QUIET_WITHIN_MS;
    while (cache.audit().leases > 0 && performance.now() < patience) await sleep(POLL_MS);
    return { seconds: this.#seconds, ...cache.audit(), heapBytes: settledBytes() };
  }
}
