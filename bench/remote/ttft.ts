/**
 * Time to the first token of 32 new tokens after 2,048, on a node that has not computed them: cold; with the prefix in
 * Redis only, where another node wrote it; again, from its own memory now; and, to compare with, with a prefix that it
 * computed itself. Two processes over one Redis, float16 KV, asked over HTTP; no disk.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { promptTokens } from '../cases.js';
import { ServerProcess } from '../server-process.js';
import { type Spread, spread } from '../statistics.js';

const PREFIX_TOKENS = 2048;
const NEW_TOKENS = 32;

export interface RemoteTtft {
  /** Milliseconds, as the client sees them. */
  readonly cold: Spread;
  readonly remote: Spread;
  readonly second: Spread;
  readonly device: Spread;
  /** Of the prefix, that came from Redis within the deadline, in each round. */
  readonly remoteTokens: readonly number[];
}

/** The nodes have a data directory each. */
export async function remoteTtft(
  model: string,
  flags: Readonly<Record<string, string | number>>,
  directories: readonly [string, string],
  rounds: number,
): Promise<RemoteTtft> {
  const [writer, reader] = await Promise.all(
    directories.map((directory) => ServerProcess.start(model, { ...flags, 'data-dir': directory })),
  );
  const times: Record<'cold' | 'remote' | 'second' | 'device', number[]> = {
    cold: [],
    remote: [],
    second: [],
    device: [],
  };
  const remoteTokens: number[] = [];
  let seed = 1;
  const ask = (server: ServerProcess, prefix: readonly number[]) => {
    return server.ask({ prompt: [...prefix, ...promptTokens(NEW_TOKENS, seed++)], maxTokens: 1 });
  };
  try {
    // The first round warms up.
    for (let round = 0; round <= rounds; round++) {
      const there = promptTokens(PREFIX_TOKENS, 10_000 + round);
      await ask(writer!, there);
      await untilWritten(writer!);
      const own = promptTokens(PREFIX_TOKENS, 20_000 + round);
      const cold = await ask(reader!, own);
      const device = await ask(reader!, own);
      await untilWritten(reader!);
      const remote = await ask(reader!, there);
      remoteTokens.push(remote.cached.remote);
      await sleep(100);
      const second = await ask(reader!, there);
      assert.equal(second.cached.device, PREFIX_TOKENS);
      assert.equal(cold.computedTokens, PREFIX_TOKENS + NEW_TOKENS);
      if (round === 0) continue;
      times.cold.push(cold.wallMs);
      times.remote.push(remote.wallMs);
      times.second.push(second.wallMs);
      times.device.push(device.wallMs);
    }
  } finally {
    await Promise.all([writer!.kill(), reader!.kill()]);
  }
  return {
    cold: spread(times.cold),
    remote: spread(times.remote),
    second: spread(times.second),
    device: spread(times.device),
    remoteTokens,
  };
}

async function untilWritten(server: ServerProcess): Promise<void> {
  do await sleep(50);
  while ((await server.stats()).remote!.queued_chunks > 0);
}
