/** Bytes that tenants may take, over HTTP: what holds, what it costs others, and how it is told. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import type { BackendOptions } from '../../src/server.js';
import { TINY_CHUNK_BYTES } from '../support/backend.js';
import { testKeys } from '../support/key-files.js';
import { served } from '../support/served.js';

const CHUNKS = (count: number) => count * TINY_CHUNK_BYTES;
const MIB = 2 ** 20;

async function withTenants(t: TestContext, options: Partial<BackendOptions> = {}) {
  const keys = testKeys(t);
  const [a, b, admin] = [keys.create('a'), keys.create('b'), keys.create('ops', 'admin')];
  const all = await served(t, options, keys.access());
  const held = async (key = admin) => {
    const { data } = (await all.send('get', '/v1/cache/tenants', undefined, key)).body;
    const rows: [string, { host: Holding; disk: Holding }][] = data.map(
      ({ tenant, ...tiers }: { tenant: string; host: Holding; disk: Holding }) => [tenant, tiers],
    );
    return new Map(rows);
  };
  return { ...all, keys, a, b, admin, held };
}

interface Holding {
  readonly bytes: number;
  readonly chunks: number;
  readonly quota_bytes: number | null;
}

suite('a quota', () => {
  test('is kept by evicting the own chunks, of all parts together; no request fails and nobody else loses', async (t) => {
    const { keys, a, b, backend, complete, cached, held } = await withTenants(t);
    keys.file.setQuotas('a', { hostBytes: CHUNKS(10), diskBytes: undefined });
    for (let i = 0; i < 4; i++) await complete(`${i}`.repeat(80), b);
    for (let i = 0; i < 12; i++) {
      await complete(`${i % 7} `.repeat(40), a, i % 2 === 0 ? {} : { cache_salt: 's' });
      assert((await held()).get('a')!.host.bytes <= CHUNKS(10), `after ${i}`);
    }
    assert.equal((await held()).get('a')!.host.quota_bytes, CHUNKS(10));
    backend.cache.dropWarm();
    for (let i = 0; i < 4; i++) assert.equal(await cached(`${i}`.repeat(80), b), 79);
    const { evictions } = backend.cache.reading();
    assert(evictions.some(({ tier, reason, count }) => tier === 'host' && reason === 'quota' && count > 0));
    const long = (await complete('z'.repeat(16 * 40), a)).body;
    assert.equal(long.usage.prompt_tokens, 640, 'a prompt larger than the quota is answered');
    backend.cache.audit();
  });

  test('that is lowered, or lifted, holds from the next request on', async (t) => {
    const { keys, a, backend, complete, cached, held } = await withTenants(t);
    await complete('a'.repeat(320), a);
    backend.cache.dropWarm();
    keys.file.setQuotas('a', { hostBytes: CHUNKS(5), diskBytes: undefined });
    const { chunks, quota_bytes } = (await held()).get('a')!.host;
    assert.deepEqual([chunks, quota_bytes], [5, CHUNKS(5)]);
    assert.equal(await cached('a'.repeat(320), a), 80, 'a prefix goes from its end');
    keys.file.setQuotas('a', { hostBytes: undefined, diskBytes: undefined });
    await complete('a'.repeat(320), a);
    assert.equal((await held()).get('a')!.host.chunks, 20);
  });

  test('of nothing keeps nothing below the device, and requests go on', async (t) => {
    const { keys, a, complete, held } = await withTenants(t);
    keys.file.setQuotas('a', { hostBytes: 0, diskBytes: 0 });
    await complete('a'.repeat(320), a);
    assert.equal((await held()).get('a')!.host.bytes, 0);
  });

  test('of the disk is apart from that of host memory, and holds after a restart', async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'radixkv-quota-'));
    const disk = { directory, capacityBytes: 64 * MIB, freeBytesMin: 0, codec: 'auto' } as const;
    const first = await withTenants(t, { disk });
    const { keys, a, backend } = first;
    await backend.cache.opened;
    await first.complete('a'.repeat(320), a);
    while ((await first.held()).get('a')!.disk.chunks < 20)
      await new Promise((resolve) => setTimeout(resolve, 10));
    await backend.close();
    keys.file.setQuotas('a', { hostBytes: undefined, diskBytes: 8 * 3 * TINY_CHUNK_BYTES });
    const second = await served(t, { disk }, keys.access());
    await second.backend.cache.opened;
    t.after(() => rm(directory, { recursive: true, force: true }));
    const { data } = (await second.send('get', '/v1/cache/tenants', undefined, a)).body;
    assert.equal(data.length, 1);
    assert(data[0].disk.bytes <= 8 * 3 * TINY_CHUNK_BYTES && data[0].disk.chunks > 4, JSON.stringify(data));
    assert.equal(data[0].host.bytes, 0);
    const found = await second.cached('a'.repeat(320), a);
    assert.equal(found, data[0].disk.chunks * 16);
    await second.backend.close();
  });
});

test('what tenants take is told to admins, to others their own', async (t) => {
  const { a, b, complete, held } = await withTenants(t);
  await complete('a'.repeat(160), a);
  await complete('b'.repeat(320), b);
  assert.deepEqual([...(await held()).keys()], ['b', 'a'], 'the largest first');
  assert.deepEqual([...(await held(a)).keys()], ['a']);
  assert.equal((await held(a)).get('a')!.host.bytes, CHUNKS(10));
});
