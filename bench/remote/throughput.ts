/**
 * How fast chunks of the default model go to Redis and come back, host memory to host memory, verified, beside
 * `redis-benchmark` with values of the same length and as many at once, in alternating rounds.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { promisify } from 'node:util';
import {
  type ChunkIdentity,
  chunkKey,
  createChecksum,
  HostStore,
  kvLayout,
  parseRemoteAddress,
  RemoteStore,
  redisConnector,
  slotBytes,
} from '#storage';
import type { RedisServer } from '../redis-server.js';
import { pairedRatio, type Spread, spread } from '../statistics.js';

/** The default model's KV: 1,474,560 bytes a chunk. */
const LAYOUT = kvLayout({ layers: 30, kvHeads: 3, headDim: 64, chunkTokens: 64, dtype: 'float16' });
const FINGERPRINT = 'bench';
/** As many values as the remote tier has under way. */
const AT_ONCE = 8;

export interface RemoteSpeed {
  readonly name: 'SET' | 'GET';
  /** Megabytes (10^6) a second. */
  readonly chunks: Spread;
  readonly benchmark: Spread;
  /** Speed of the chunks as a share of redis-benchmark's, round by round. */
  readonly share: Spread;
}

const run = promisify(execFile);
const stopwatch = () => performance.now();

export async function remoteThroughput(
  redis: RedisServer,
  options: { readonly chunks: number; readonly rounds: number },
): Promise<RemoteSpeed[]> {
  const checksum = await createChecksum();
  const clock = { now: () => Date.now() };
  const chunks = chunksOf(options.chunks);
  const capacityBytes = chunks.length * LAYOUT.chunkBytes;
  const host = new HostStore({ chunkBytes: LAYOUT.chunkBytes, capacityBytes, checksum, clock });
  const bytes = randomFillSync(new Uint8Array(LAYOUT.chunkBytes));
  const store = new RemoteStore({
    connect: redisConnector(parseRemoteAddress(redis.url)!),
    canMove: false,
    fingerprint: FINGERPRINT,
    layout: LAYOUT,
    codec: 'float16',
    checksum,
    clock,
    stopwatch,
    writePolicy: 'write-through',
    writeHits: 1,
    ttlMs: 3_600_000,
    namespaceBytes: 2 ** 40,
    ownerOf: (namespace) => namespace,
    queueBytesMax: 2 * capacityBytes,
  });
  const writer = store.writeFrom(host);
  const times = { SET: [] as number[], GET: [] as number[] };
  const benchmarks = { SET: [] as number[], GET: [] as number[] };
  try {
    await store.attempted;
    for (const chunk of chunks) assert.equal(await host.write(chunk, bytes), 'stored');
    // The first round warms up.
    for (let round = 0; round <= options.rounds; round++) {
      await redis.ask('FLUSHALL');
      for (const { key } of chunks) writer.remove(key);
      await writer.flushed();
      const [set, get] = await benchmark(redis, chunks.length);
      await redis.ask('FLUSHALL');
      const setMs = await timed(async () => {
        for (const { key } of chunks) writer.sealed(key);
        await writer.flushed();
      });
      assert.equal(store.reading().writes.stored, (round + 1) * chunks.length);
      const getMs = await timed(async () => {
        const wanted = chunks.map((chunk) => {
          return { chunk, into: slotBytes(host.slab, host.lookup(chunk.key)!.slot) };
        });
        assert.equal((await store.load(wanted, stopwatch() + 600_000)).length, chunks.length);
      });
      if (round === 0) continue;
      const megabytes = capacityBytes / 1e6;
      times.SET.push((megabytes * 1000) / setMs);
      times.GET.push((megabytes * 1000) / getMs);
      benchmarks.SET.push((set * LAYOUT.chunkBytes) / 1e6);
      benchmarks.GET.push((get * LAYOUT.chunkBytes) / 1e6);
    }
  } finally {
    await store.close();
  }
  return (['SET', 'GET'] as const).map((name) => ({
    name,
    chunks: spread(times[name]),
    benchmark: spread(benchmarks[name]),
    share: pairedRatio(times[name], benchmarks[name]),
  }));
}

/** Values a second, written and read. */
async function benchmark(redis: RedisServer, values: number): Promise<[number, number]> {
  const options = ['-p', redis.port, '-d', LAYOUT.chunkBytes, '-c', AT_ONCE, '-n', values, '-r', values];
  const { stdout } = await run('redis-benchmark', [...options.map(String), '-t', 'set,get', '--csv']);
  const perSecond = (name: string): number => {
    const [, text] = new RegExp(`^"${name}","([\\d.]+)"`, 'm').exec(stdout) ?? [];
    assert(text !== undefined, stdout);
    return Number(text);
  };
  return [perSecond('SET'), perSecond('GET')];
}

function chunksOf(count: number): ChunkIdentity[] {
  const chunks: ChunkIdentity[] = [];
  for (let index = 0; index < count; index++) {
    const parent = chunks.at(-1)?.key;
    const tokens = Int32Array.from({ length: LAYOUT.chunkTokens }, (_, token) => index + token);
    const key = chunkKey({ fingerprint: FINGERPRINT, salt: '', parent, tokens });
    chunks.push({ key, parent, namespace: '', tokens });
  }
  return chunks;
}

async function timed(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}
