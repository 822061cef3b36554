/**
 * How long a server takes to start when its disk tier holds many chunks: until it is ready, and until all of them can be
 * found. Beside a server without any, so that one sees what the chunks cost. With the tiny model, whose chunks are small.
 */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DIRECTORY_BYTES } from '#storage';
import { fillDisk } from './filled-disk.js';
import { ServerProcess } from './server-process.js';
import { type Spread, spread } from './statistics.js';
import { digits } from './table.js';
import { importTiny, TINY } from './tiny.js';

const CHUNK_TOKENS = 16;
/** More than a file of 4 KiB counts for. */
const BYTES_PER_CHUNK = 16_384;
const POLL_MS = 5;
const READY_MS_AT_MOST = 2000;

export interface StartUp {
  readonly chunks: number;
  /** Milliseconds from the start of the process until it is ready, without and with chunks. */
  readonly emptyMs: Spread;
  readonly readyMs: Spread;
  /** Until the last chunk can be found. */
  readonly foundMs: Spread;
}

/** Makes such a disk tier below `directory` and starts servers in alternating rounds. */
export async function startUpBench(options: {
  readonly chunks: number;
  readonly rounds: number;
  readonly directory: string;
}): Promise<StartUp> {
  const { chunks, rounds, directory } = options;
  await mkdir(directory, { recursive: true });
  const place = await mkdtemp(join(directory, 'bench-'));
  try {
    const model = await importTiny(join(place, 'models'));
    const capacityBytes = chunks * BYTES_PER_CHUNK + DIRECTORY_BYTES;
    const prompt = await fillDisk(join(place, 'full'), {
      model,
      chunkTokens: CHUNK_TOKENS,
      chunks,
      capacityBytes,
    });
    const flags = {
      'data-dir': place,
      threads: 1,
      'chunk-tokens': CHUNK_TOKENS,
      'disk-bytes': capacityBytes,
      'disk-free-bytes': 0,
      'break-even': 'off',
    };
    const emptyMs: number[] = [];
    const readyMs: number[] = [];
    const foundMs: number[] = [];
    for (let round = 0; round < rounds; round++) {
      await withServer({ ...flags, 'disk-dir': join(place, 'empty') }, async (empty) => {
        emptyMs.push(await empty.ready());
      });
      await withServer({ ...flags, 'disk-dir': join(place, 'full') }, async (full) => {
        readyMs.push(await full.ready());
        while ((await full.stats()).disk?.state !== 'open') await sleep(POLL_MS);
        foundMs.push(full.ageMs);
        const reply = await full.ask({ prompt: [...prompt, 1], maxTokens: 1 });
        assert.equal(reply.cached.disk, prompt.length, 'what is catalogued is found');
      });
    }
    return { chunks, emptyMs: spread(emptyMs), readyMs: spread(readyMs), foundMs: spread(foundMs) };
  } finally {
    await rm(place, { recursive: true, force: true });
  }
}

async function withServer(
  flags: Readonly<Record<string, string | number>>,
  use: (server: ServerProcess) => Promise<void>,
): Promise<void> {
  const server = new ServerProcess(TINY, flags);
  try {
    await use(server);
  } finally {
    await server.kill();
  }
}

/** One line. */
export function startUpLine({ chunks, emptyMs, readyMs, foundMs }: StartUp): string {
  const short = readyMs.median > READY_MS_AT_MOST ? ', above the target' : '';
  const count = chunks.toLocaleString('en-US');
  return (
    `Start with ${count} chunks: ready after ${digits(readyMs.median)} ms (target ≤ ${READY_MS_AT_MOST} ms${short}), ` +
    `all of them found after ${digits(foundMs.median)} ms; with none: ready after ${digits(emptyMs.median)} ms.`
  );
}
