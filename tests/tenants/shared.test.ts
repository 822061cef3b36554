/** Public texts that tenants share who want to: what they read of each other then, and what never. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import { SHARED_NAMESPACE } from '../../src/cache/shared-namespace.js';
import type { BackendOptions } from '../../src/server.js';
import { TINY_TOKEN_BYTES } from '../support/backend.js';
import { testKeys } from '../support/key-files.js';
import { served } from '../support/served.js';

const PUBLIC = 'You answer questions about the lighthouse, its lamp and its keepers, in one sentence each.';
const WHOLE = Math.floor(PUBLIC.length / 16) * 16;

async function withTenants(t: TestContext, options: Partial<BackendOptions> = {}, keys = testKeys(t)) {
  const [a, b, c, admin] = [
    keys.create('a'),
    keys.create('b'),
    keys.create('c'),
    keys.create('ops', 'admin'),
  ];
  for (const name of ['a', 'b']) keys.file.setReadsShared(name, true);
  const all = await served(t, options, keys.access());
  await all.backend.cache.opened;
  const declare = async (prompt = PUBLIC) => {
    const answer = await all.send('post', '/v1/cache/shared', { model: all.model, prompt }, admin);
    assert.equal(answer.status, 201, answer.text);
    await all.backend.scheduler.idle();
    return answer.body;
  };
  return { ...all, keys, a, b, c, admin, declare };
}

suite('a public text', () => {
  test('is a hit for who wants to share, up to its last whole chunk, and answers are the same', async (t) => {
    const { a, b, c, backend, complete, cached, declare } = await withTenants(t);
    const ask = { max_tokens: 12, temperature: 0, logprobs: 1 };
    const { body: cold } = await complete(`${PUBLIC} Who?`, c, ask);
    const declared = await declare();
    assert.deepEqual([declared.tokens, declared.cached_tokens, declared.whole], [WHOLE, WHOLE, true]);
    for (const key of [a, b]) {
      assert.equal(await cached(`${PUBLIC} Who?`, key), WHOLE);
      const { body } = await complete(`${PUBLIC} Who?`, key, ask);
      assert.equal(body.usage.prompt_tokens_details.cached_tokens, WHOLE);
      assert.deepEqual(body.choices, cold.choices);
    }
    assert.deepEqual(backend.cache.audit(), { activeRuns: 0, leases: 0 });
  });

  test('is none for who did not ask for it, nor in the parts of salts, and shows nothing else of anybody', async (t) => {
    const { a, b, c, admin, backend, complete, cached, declare } = await withTenants(t);
    await declare();
    for (const key of [c, admin]) assert.equal(await cached(`${PUBLIC} Who?`, key), 0);
    assert.equal(await cached(`${PUBLIC} Who?`, a, { cache_salt: 's' }), 0);
    const secret = `${PUBLIC} My password is swordfish, and I live at number 12.`;
    await complete(secret, a, { max_tokens: 20 });
    await complete(PUBLIC, c);
    backend.cache.dropWarm();
    assert.equal(await cached(secret, b), WHOLE);
    assert.equal(await cached(secret.slice(0, WHOLE + 8), b), WHOLE);
    assert.equal(await cached(`${PUBLIC.slice(0, 40)}!`, b), 32, 'as far as whole chunks of it agree');
    assert.equal(await cached(`A text that nobody declared. ${PUBLIC}`, b), 0);
    assert.equal((await complete(secret, b)).body.usage.prompt_tokens_details.cached_tokens, WHOLE);
    const tokens = backend.cache
      .outline(SHARED_NAMESPACE, [])
      .map((node) => String.fromCharCode(...node.tokens));
    assert.deepEqual(tokens, [PUBLIC.slice(0, WHOLE)], 'there is nothing but what was declared');
  });

  test('in chats is the beginning that messages have in any chat', async (t) => {
    const { a, b, admin, model, send, backend } = await withTenants(t);
    const system = { role: 'system', content: PUBLIC };
    const declared = await send('post', '/v1/cache/shared', { model, messages: [system] }, admin);
    const { tokens } = declared.body;
    await backend.scheduler.idle();
    for (const [key, content] of [
      [a, 'Who lit the lamp?'],
      [b, 'When?'],
    ] as const) {
      const body = { model, messages: [system, { role: 'user', content }], max_tokens: 1 };
      const answer = await send('post', '/v1/chat/completions', body, key);
      assert.equal(answer.body.usage.prompt_tokens_details.cached_tokens, tokens);
    }
  });

  test('is declared, listed and ended by admins only; ended, nobody new reads it', async (t) => {
    const { a, admin, b, model, send, complete, cached, declare } = await withTenants(t);
    for (const [method, path] of [
      ['get', '/v1/cache/shared'],
      ['delete', '/v1/cache/shared/x'],
    ] as const)
      assert.equal((await send(method, path, undefined, a)).status, 403);
    assert.equal((await send('post', '/v1/cache/shared', { model, prompt: PUBLIC }, a)).status, 403);
    const short = await send('post', '/v1/cache/shared', { model, prompt: 'short' }, admin);
    assert.equal(short.body.error.code, 'invalid_value');
    const { id } = await declare();
    const longer = await declare(`${PUBLIC} And nothing else, whatever they say to you.`);
    const { data } = (await send('get', '/v1/cache/shared', undefined, admin)).body;
    assert.deepEqual(
      data.map((each: { id: string }) => each.id),
      [id, longer.id],
    );
    await complete(PUBLIC, a);
    await send('delete', `/v1/cache/shared/${longer.id}`, undefined, admin);
    assert.equal(
      await cached(`${PUBLIC} And nothing else, whatever`, b),
      WHOLE,
      'the shorter one is still there',
    );
    assert.equal((await send('delete', `/v1/cache/shared/${id}`, undefined, admin)).body.deleted, true);
    assert.equal(await cached(`${PUBLIC}.`, b), 0);
    assert.equal(await cached(`${PUBLIC}.`, a), PUBLIC.length, 'who used it has a copy');
    assert.equal((await send('delete', `/v1/cache/shared/${id}`, undefined, admin)).status, 404);
  });

  test('is read from the next request on that a tenant wants to, and no more when it does not', async (t) => {
    const { keys, c, cached, declare } = await withTenants(t);
    await declare();
    assert.equal(await cached(`${PUBLIC}.`, c), 0);
    keys.file.setReadsShared('c', true);
    assert.equal(await cached(`${PUBLIC}.`, c), WHOLE);
    keys.file.setReadsShared('c', false);
    assert.equal(await cached(`${PUBLIC}.`, c), 0);
  });

  test('is there after a restart, from the disk, for the same tenants alone', async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'radixkv-shared-'));
    const options = {
      disk: { directory, capacityBytes: 64 * 2 ** 20, freeBytesMin: 0, codec: 'auto' as const },
      pinsFile: join(directory, 'pins.sqlite'),
    };
    const first = await withTenants(t, options);
    await first.declare();
    const onDisk = () => first.backend.cache.reading().prefixes!.tiers.disk!.chunks;
    while (onDisk() < WHOLE / 16) await new Promise((resolve) => setTimeout(resolve, 5));
    await first.backend.close();
    const { a, c, backend, complete, send, admin } = await withTenants(t, options, first.keys);
    t.after(() => rm(directory, { recursive: true, force: true }));
    assert.equal((await send('get', '/v1/cache/shared', undefined, admin)).body.data.length, 1);
    const { body } = await complete(`${PUBLIC}.`, a);
    assert.equal(body.timings.cached_tokens.disk, WHOLE);
    assert.equal((await complete(`${PUBLIC}.`, c)).body.timings.computed_tokens, PUBLIC.length + 1);
    await backend.close();
  });

  test('is no part of an archive, nor forgotten with all tenants, and none of their bytes', async (t) => {
    const { a, admin, send, cached, complete, declare } = await withTenants(t);
    await declare();
    await complete('of a alone, and long enough for a chunk', a);
    const { body } = await send('delete', '/v1/cache?tenant=*', undefined, admin);
    assert.equal(body.chunks, 2);
    assert.equal(await cached(`${PUBLIC}.`, a), WHOLE);
    const { data } = (await send('get', '/v1/cache/tenants', undefined, admin)).body;
    assert.deepEqual(data, []);
  });
});

test('many tenants at once, with little memory, read it and keep to themselves what they add', async (t) => {
  const { keys, backend, complete, cached, declare } = await withTenants(t, {
    deviceBytes: 1024 * TINY_TOKEN_BYTES,
  });
  await declare();
  const tenants = Array.from({ length: 8 }, (_, i) => `t${i}`);
  const made = tenants.map((name) => keys.create(name));
  for (const name of tenants) keys.file.setReadsShared(name, true);
  await Promise.all(
    made.map((key, i) => complete(`${PUBLIC} I am number ${i} and this is mine alone.`, key)),
  );
  backend.cache.dropWarm();
  for (const [i, key] of made.entries()) {
    for (const j of made.keys()) {
      const found = await cached(`${PUBLIC} I am number ${j} and this is mine alone.`, key);
      assert(i === j ? found > WHOLE : found < PUBLIC.length + ' I am number 0'.length, `${i} ${j} ${found}`);
    }
  }
  assert.deepEqual(backend.cache.audit(), { activeRuns: 0, leases: 0 });
});
