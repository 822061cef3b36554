/** Cache events over HTTP: who applies them knows what each tier has, and they end with the server. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createApp } from '../../src/api/app.js';
import { type RunningServer, startServer } from '../../src/api/server.js';
import { seededRandom } from '../../src/engine/random.js';
import type { BackendOptions } from '../../src/server.js';
import {
  ask,
  type TestBackend,
  TINY_CHUNK_BYTES,
  TINY_TOKEN_BYTES,
  testBackend,
} from '../support/backend.js';

interface Received {
  readonly id: number;
  readonly data: {
    readonly seq?: number;
    readonly type: string;
    readonly block_hashes?: readonly string[];
    readonly parent_block_hash?: string | null;
    readonly token_ids?: readonly number[];
    readonly block_size?: number;
    readonly medium?: string;
    readonly cause?: string;
    readonly reason?: string;
  };
}

async function serve(t: { after(hook: () => Promise<void>): void }, options: Partial<BackendOptions> = {}) {
  const backend = await testBackend(t, options);
  const { service, statistics, controls } = backend;
  const app = createApp({ service, statistics, controls });
  const server = await startServer({
    app,
    host: '127.0.0.1',
    port: 0,
    shutdownTimeoutMs: 5000,
    onShutdown: () => controls.events.close(),
  });
  t.after(() => server.close());
  return { backend, server };
}

/** Reads events into a list until the stream ends. */
async function listen(server: RunningServer, { after = '', key = '', lastEventId = '' } = {}) {
  const aborter = new AbortController();
  const url = new URL(`/v1/cache/events${after === '' ? '' : `?after=${after}`}`, server.url);
  const response = await fetch(url, {
    signal: aborter.signal,
    headers: {
      ...(key !== '' && { authorization: `Bearer ${key}` }),
      ...(lastEventId !== '' && { 'last-event-id': lastEventId }),
    },
  });
  assert.equal(response.status, 200);
  const received: Received[] = [];
  const positions: number[] = [];
  const reading = async () => {
    let rest = '';
    for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
      const blocks = (rest + text).split('\n\n');
      rest = blocks.pop()!;
      for (const block of blocks) {
        const [, id, data] = /^id: (\d+)(?:\ndata: (.*))?$/s.exec(block)!;
        if (data === undefined) positions.push(Number(id));
        else received.push({ id: Number(id), data: JSON.parse(data) });
      }
    }
  };
  const ended = reading().catch(() => {});
  return { received, positions, ended, stop: () => aborter.abort() };
}

/** Keys by medium, as the events tell. */
function mirror(received: readonly Received[]): Record<string, Set<string>> {
  const media: Record<string, Set<string>> = { CPU: new Set(), DISK: new Set() };
  for (const { data } of received) {
    const held = media[data.medium ?? ''];
    for (const hash of data.block_hashes ?? []) {
      if (data.type === 'BlockStored') held!.add(hash);
      else assert(held!.delete(hash), 'what left had come');
    }
  }
  return media;
}

async function traffic(backend: TestBackend): Promise<void> {
  const random = seededRandom(5);
  for (let i = 0; i < 60; i++) {
    const letter = 'abc'[Math.floor(random() * 3)]!;
    const prompt = letter.repeat(20 + Math.floor(random() * 150)) + (random() < 0.5 ? 'x'.repeat(40) : '');
    await ask(backend, { prompt, maxTokens: 1 });
  }
  await backend.scheduler.idle();
  await sleep(300);
}

suite('cache events', () => {
  test('tell what each tier has, through evictions, demotions, promotions and a clearing', async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'radixkv-events-'));
    const disk = {
      directory,
      capacityBytes: 64 * 1024 ** 2,
      freeBytesMin: 0,
      codec: 'auto' as const,
    };
    const { backend, server } = await serve(t, {
      disk,
      hostBytes: 12 * TINY_CHUNK_BYTES,
      deviceBytes: 512 * TINY_TOKEN_BYTES,
    });
    // Behind those that close what writes there.
    t.after(() => rm(directory, { recursive: true, force: true }));
    const { received, stop, ended } = await listen(server);
    await traffic(backend);
    const held = () => {
      const { host, disk: onDisk } = backend.cache.reading().prefixes!.tiers;
      return { CPU: host!.chunks, DISK: onDisk!.chunks };
    };
    const sizes = () => {
      const { CPU, DISK } = mirror(received);
      return { CPU: CPU!.size, DISK: DISK!.size };
    };
    assert.deepEqual(sizes(), held());
    assert(held().CPU > 4 && held().DISK > held().CPU);
    const causes = new Set(received.map(({ data }) => data.cause ?? data.reason));
    assert.deepEqual(causes, new Set(['computed', 'demoted', 'capacity', 'promoted']));
    assert.deepEqual(
      received.map(({ id }) => id),
      received.map((_, i) => i + 1),
    );
    await fetch(new URL('/v1/cache', server.url), { method: 'DELETE' });
    await sleep(100);
    assert.deepEqual(sizes(), { CPU: 0, DISK: 0 });
    assert.equal(received.at(-1)!.data.type, 'AllBlocksCleared');
    stop();
    await ended;
  });

  test('name parents and tokens, so that a router can find a prompt by them', async (t) => {
    const { backend, server } = await serve(t);
    const { received, stop } = await listen(server);
    await ask(backend, { prompt: 'abcdefghijklmnop'.repeat(3), maxTokens: 1 });
    await ask(backend, { prompt: `${'abcdefghijklmnop'.repeat(3)}q`, maxTokens: 1 });
    await sleep(100);
    const stored = received.map(({ data }) => data);
    assert.deepEqual(
      stored.flatMap(({ token_ids }) => token_ids!),
      [...Buffer.from('abcdefghijklmnop'.repeat(3))],
    );
    const chain = stored.flatMap(({ block_hashes }) => block_hashes!);
    assert.equal(new Set(chain).size, 3);
    assert.equal(stored[0]!.parent_block_hash, null);
    for (const { parent_block_hash, block_hashes, block_size } of stored.slice(1)) {
      assert.equal(parent_block_hash, chain[chain.indexOf(block_hashes![0]!) - 1]);
      assert.equal(block_size, 16);
    }
    stop();
  });

  test('are those of the own key, from a number on, and end with the server', async (t) => {
    const { backend, server } = await serve(t);
    const other = await listen(server, { key: 'another' });
    await ask(backend, { prompt: 'a'.repeat(40), maxTokens: 1 });
    await ask(backend, { prompt: 'b'.repeat(40), maxTokens: 1 });
    await sleep(100);
    assert.deepEqual(other.received, []);
    const all = await listen(server, { after: '0' });
    await sleep(50);
    assert(all.received.length >= 2);
    const later = await listen(server, { lastEventId: '1' });
    await sleep(50);
    assert.deepEqual(later.received, all.received.slice(1));
    assert.deepEqual([all.positions, later.positions], [[0], [1]]);
    await server.close();
    await Promise.all([all.ended, later.ended, other.ended]);
  });

  test('are refused for what is no number', async (t) => {
    const { server } = await serve(t);
    const response = await fetch(new URL('/v1/cache/events?after=x', server.url));
    assert.equal(response.status, 400);
    assert.match(await response.text(), /"param":"after"/);
  });
});
