/** Pins and salts over restarts: what is pinned stays so, what ran out is gone, and the budget holds. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after as afterAll, suite, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ServerProcess } from '../../bench/server-process.js';
import { importTiny, TINY } from '../../bench/tiny.js';
import { namespaceOf } from '../../src/api/namespace.js';
import { PinFile } from '../../src/control/pin-file.js';
import type { BackendOptions } from '../../src/server.js';
import { TINY_CHUNK_BYTES } from '../support/backend.js';
import { type Served, served } from '../support/served.js';

const MIB = 2 ** 20;
const PINNED = 'p'.repeat(64);

const made: string[] = [];
// Not after each test: its backend, which still writes, is closed after it too.
afterAll(() => Promise.all(made.map((path) => rm(path, { recursive: true, force: true }))));

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'radixkv-pins-'));
  made.push(path);
  return path;
}

async function start(t: TestContext, path: string, options: Partial<BackendOptions> = {}): Promise<Served> {
  const disk = {
    directory: join(path, 'cache'),
    capacityBytes: 64 * MIB,
    freeBytesMin: 0,
    codec: 'auto',
  } as const;
  const all = await served(t, { disk, pinsFile: join(path, 'pins.sqlite'), ...options });
  await all.backend.cache.opened;
  return all;
}

const pin = async ({ send, model }: Served, fields: object = {}, key = '') => {
  const answer = await send('post', '/v1/cache/pins', { model, prompt: PINNED, ...fields }, key);
  assert.equal(answer.status, 201, answer.text);
  return answer.body;
};
const pins = async ({ send }: Served, key = '') =>
  (await send('get', '/v1/cache/pins', undefined, key)).body.data;
const onDisk = async ({ backend }: Served, chunks: number) => {
  while (backend.cache.reading().prefixes!.tiers.disk!.chunks < chunks) await sleep(5);
};

suite('after a restart a pin', () => {
  test('is there as it was, and holds its chunks; each tenant has its own', async (t) => {
    const path = await folder();
    const before = await start(t, path);
    const one = await pin(before, { ttl_seconds: 600, priority: 70 }, 'one');
    const salted = await pin(before, { cache_salt: 's' });
    await onDisk(before, 8);
    await before.backend.close();
    const now = await start(t, path);
    assert.deepEqual(await pins(now, 'one'), [one]);
    assert.deepEqual(await pins(now), [salted]);
    const { body } = await now.send('delete', '/v1/cache', undefined, 'one');
    assert.deepEqual([body.chunks, body.kept.pinned], [0, 4]);
    await now.send('delete', `/v1/cache/pins/${one.id}`, undefined, 'one');
    await now.backend.close();
    const later = await start(t, path);
    assert.deepEqual(await pins(later, 'one'), []);
    assert.deepEqual(await pins(later), [salted]);
    await later.backend.close();
  });

  test('that ran out meanwhile, or whose chunks are gone, is dropped, and stays so', async (t) => {
    const path = await folder();
    const before = await start(t, path);
    await pin(before, { ttl_seconds: 1 }, 'short');
    await pin(before, {}, 'gone');
    await pin(before, {}, 'kept');
    await onDisk(before, 12);
    await before.backend.close();
    await sleep(1100);
    const disk = {
      directory: join(path, 'cache'),
      capacityBytes: 64 * MIB,
      freeBytesMin: 0,
      codec: 'auto',
    } as const;
    const without = await served(t, { disk });
    await without.backend.cache.opened;
    without.backend.cache.unpin(namespaceOf('gone'), Int32Array.from(Buffer.from(PINNED)));
    await without.send('delete', '/v1/cache', undefined, 'gone');
    await without.backend.close();
    for (const _ of [1, 2]) {
      const now = await start(t, path);
      assert.deepEqual([await pins(now, 'short'), await pins(now, 'gone')], [[], []]);
      assert.equal((await pins(now, 'kept')).length, 1);
      await now.backend.close();
    }
  });

  test('that has no room in a smaller tier any more is dropped', async (t) => {
    const path = await folder();
    const before = await start(t, path);
    await pin(before, { prompt: 'p'.repeat(16 * 20) });
    await onDisk(before, 20);
    await before.backend.close();
    const bytes = 8 * MIB + 24 * 2 * TINY_CHUNK_BYTES;
    const small = {
      directory: join(path, 'cache'),
      capacityBytes: bytes,
      freeBytesMin: 0,
      codec: 'auto',
    } as const;
    const now = await start(t, path, { disk: small });
    assert.deepEqual(await pins(now), []);
    const { host: _host, ...tiers } = now.backend.cache.reading().prefixes!.tiers;
    assert(tiers.disk!.bytes <= tiers.disk!.capacityBytes);
    await now.backend.close();
  });

  test('is sealed under the encryption key, and a corrupt file is begun anew', async (t) => {
    const path = await folder();
    const disk = (fill: number) => ({
      directory: join(path, 'cache'),
      capacityBytes: 64 * MIB,
      freeBytesMin: 0,
      codec: 'auto' as const,
      encryptionKey: Buffer.alloc(32, fill),
    });
    const before = await start(t, path, { disk: disk(1) });
    await pin(before);
    await onDisk(before, 4);
    await before.backend.close();
    const file = join(path, 'pins.sqlite');
    assert(!(await readFile(file)).includes(Buffer.from(Int32Array.from(Buffer.from('pppp')).buffer)));
    const other = await start(t, path, { disk: disk(2) });
    assert.deepEqual(await pins(other), []);
    await other.backend.close();
    const again = await start(t, path, { disk: disk(1) });
    assert.equal((await pins(again)).length, 1);
    await again.backend.close();
    await writeFile(file, 'no database');
    const anew = await start(t, path, { disk: disk(1) });
    assert.deepEqual(await pins(anew), []);
    await pin(anew);
    await anew.backend.close();
  });
});

test('a real kill -9 loses no pin whose chunks are on the disk', { timeout: 200_000 }, async (t) => {
  const path = await folder();
  await importTiny(join(path, 'models'));
  const flags = {
    'data-dir': path,
    'models-dir': join(path, 'models'),
    'chunk-tokens': 16,
    'break-even': 'off',
    'disk-free-bytes': 0,
  };
  const first = await ServerProcess.start(TINY, flags);
  t.after(() => first.kill());
  const created = await fetch(`${first.url}/v1/cache/pins`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: TINY, prompt: PINNED, ttl_seconds: 3600 }),
  });
  const { id } = JSON.parse(await created.text());
  while ((await first.stats()).by_tier.disk.bytes === 0) await sleep(10);
  // The write of the last chunk, and of its pin, is a moment behind the first one's.
  await sleep(1000);
  await first.kill();
  const second = await ServerProcess.start(TINY, flags);
  t.after(() => second.kill());
  let data: { id: string; cached_tokens: number }[] = [];
  while (data.length === 0) {
    data = JSON.parse(await (await fetch(`${second.url}/v1/cache/pins`)).text()).data;
    await sleep(20);
  }
  assert.deepEqual(
    data.map((each) => [each.id, each.cached_tokens]),
    [[id, 64]],
  );
});

test('a pin ends when nobody used it, also while the server runs, and use renews it', async (t) => {
  const all = await served(t);
  await pin(all, { ttl_seconds: 1 });
  await pin(all, { prompt: 'q'.repeat(64), ttl_seconds: 1 });
  for (let i = 0; i < 5; i++) {
    await sleep(300);
    all.backend.cache.dropWarm();
    await all.complete(`${PINNED}.`);
  }
  assert.deepEqual((await pins(all)).length, 1);
  await sleep(1100);
  assert.deepEqual(await pins(all), []);
});

test('what is warmed for a salt is found with the salt alone', async (t) => {
  const { send, model, cached } = await served(t);
  const body = { model, prompts: [{ prompt: 'w'.repeat(64) }], cache_salt: 's' };
  const { id } = (await send('post', '/v1/cache/warm', body)).body;
  while ((await send('get', `/v1/cache/warm/${id}`)).body.status !== 'done') await sleep(5);
  assert.deepEqual(
    [
      await cached('w'.repeat(64), '', { cache_salt: 's' }),
      await cached('w'.repeat(64)),
      await cached('w'.repeat(64), '', { cache_salt: 't' }),
    ],
    [63, 0, 0],
  );
});

test('a file of pins has what was added and not removed', async (t) => {
  const path = join(await folder(), 'pins.sqlite');
  const options = {
    path,
    fingerprint: 'f',
    encryptionKey: Buffer.alloc(32, 1),
    onCorrupt: () => assert.fail(),
  };
  const file = PinFile.open(options);
  t.after(async () => file.close());
  const tokens = Int32Array.of(1, 2, 3);
  const rest = { owner: 'o', namespace: 'n', tokens, createdAtMs: 1, ttlMs: undefined, priority: 3 };
  file.add({ id: 'a', ...rest });
  file.add({ id: 'b', ...rest });
  assert.deepEqual(file.all(), [
    { id: 'a', ...rest },
    { id: 'b', ...rest },
  ]);
  file.remove('a');
  assert.deepEqual(file.all(), [{ id: 'b', ...rest }]);
});
