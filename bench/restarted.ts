/**
 * Our server after a restart: a process whose disk tier was filled by one that is gone.
 *
 * A first process computes a prefix and writes it through to disk; it and all later ones end by `kill -9`. Each
 * measurement starts a process of its own, has it answer a short prompt (first runs of any code are slow, here as with
 * the peer), and times the next request over HTTP.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { dropPageCache } from './page-cache.js';
import { ServerProcess } from './server-process.js';

/** Shorter than a chunk, so that nothing of it is kept. */
const WARM_UP = Array.from({ length: 32 }, (_, token) => 1000 + token);
const POLL_MS = 20;

export class RestartedServer {
  readonly #model: string;
  readonly #flags: Readonly<Record<string, string | number>>;
  /** The prefix on disk, as text to compare. */
  #saved: string | undefined;

  /** `flags` are those of `serve`, the directory of the disk tier among them. */
  constructor(model: string, flags: Readonly<Record<string, string | number>>) {
    this.#model = model;
    this.#flags = { 'disk-bytes': '8GiB', 'write-policy': 'write-through', ...flags };
  }

  /** Milliseconds of `[...cached, ...fresh]`, `cached` being on disk only: whole chunks. */
  async ttft(
    cached: readonly number[],
    fresh: readonly number[],
    pageCache: 'warm' | 'dropped',
  ): Promise<number> {
    if (this.#saved !== cached.join()) await this.#save(cached, fresh);
    if (pageCache === 'dropped') dropPageCache();
    const server = await ServerProcess.start(this.#model, this.#flags);
    try {
      await server.ask({ prompt: WARM_UP, maxTokens: 1 });
      const reply = await server.ask({ prompt: [...cached, ...fresh], maxTokens: 1 });
      assert.deepEqual(reply.cached, { device: 0, host: 0, disk: cached.length, remote: 0 });
      return reply.wallMs;
    } finally {
      await server.kill();
    }
  }

  async #save(cached: readonly number[], fresh: readonly number[]): Promise<void> {
    const server = await ServerProcess.start(this.#model, this.#flags);
    try {
      await server.ask({ prompt: [...cached, ...fresh.toReversed()], maxTokens: 1 });
      await untilOnDisk(server);
    } finally {
      await server.kill();
    }
    this.#saved = cached.join();
  }
}

/** Until nothing is on its way to disk any more. */
async function untilOnDisk(server: ServerProcess): Promise<void> {
  for (;;) {
    const { by_tier, disk } = await server.stats();
    if (by_tier.disk.chunks! > 0 && disk!.queued_chunks === 0) return;
    await sleep(POLL_MS);
  }
}
