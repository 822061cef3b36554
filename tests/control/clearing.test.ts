/** `DELETE /v1/cache` by prefix, tenant, model and tier: what goes, and what stays. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { importModel } from '../../src/model/importer.js';
import { TINY_MODEL } from '../support/backend.js';
import { testKeys } from '../support/key-files.js';
import { served } from '../support/served.js';

const CHUNK = 16;
const BY_PREFIX = '/v1/cache?by=prefix';

function commonLength(one: string, other: string): number {
  let length = 0;
  while (length < Math.min(one.length, other.length) && one[length] === other[length]) length++;
  return length;
}

/** Chunks by all tokens up to their end: those of prompts, less what goes with a prefix. */
function left(prompts: readonly string[], prefix: string): string[] {
  const all = prompts.flatMap((prompt) =>
    Array.from({ length: Math.floor(prompt.length / CHUNK) }, (_, i) => prompt.slice(0, (i + 1) * CHUNK)),
  );
  const goes = (chunk: string): boolean =>
    chunk.startsWith(prefix) ||
    (prefix.startsWith(chunk) &&
      all.every((other) => other === chunk || !other.startsWith(chunk) || goes(other)));
  return all.filter((chunk) => !goes(chunk));
}

suite('forgetting a prefix', () => {
  test('takes all that goes on from it, its beginnings that nobody else needs, and nothing else', async (t) => {
    const { backend, model, send, complete, cached } = await served(t);
    const letters = fc.array(fc.constantFrom('a', 'b'), { minLength: 1, maxLength: 3 });
    // Runs of a letter as long as a chunk or half of one, so that paths part within chunks too.
    const text = letters.chain((all) =>
      fc
        .constantFrom(CHUNK / 2, CHUNK)
        .map((count) => `${all.map((letter) => letter.repeat(count)).join('')}.`),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(text, { minLength: 1, maxLength: 5 }),
        text,
        fc.nat(40),
        async (prompts, end, cut) => {
          await send('delete', '/v1/cache');
          for (const prompt of prompts) await complete(prompt);
          backend.cache.dropWarm();
          const prefix = end.slice(0, Math.max(1, end.length - cut));
          const answer = await send('delete', BY_PREFIX, { model, prompt: prefix });
          assert.equal(answer.status, 200, answer.text);
          const chunks = left(prompts, prefix);
          for (const prompt of prompts) {
            const expected = Math.max(0, ...chunks.map((chunk) => commonLength(chunk, prompt.slice(0, -1))));
            assert.equal(await cached(prompt), expected, JSON.stringify({ prompts, prefix, prompt }));
          }
          backend.cache.audit();
        },
      ),
      { numRuns: 60 },
    );
  });

  test('of messages takes all chats that begin with them, and says what others still need', async (t) => {
    const { backend, model, send } = await served(t);
    const system = { role: 'system', content: 'You answer questions about the lighthouse and its keepers.' };
    const chats = ['Who lit the lamp?', 'When was it built, and by whom?'].map((content) => [
      system,
      { role: 'user', content },
    ]);
    const answer = async (messages: readonly object[]) => {
      const { status } = await send('post', '/v1/chat/completions', { model, messages, max_tokens: 1 });
      assert.equal(status, 200);
      await backend.scheduler.idle();
      backend.cache.dropWarm();
    };
    const cached = async (messages: readonly object[]) =>
      (await send('post', '/v1/cache/lookup', { model, messages })).body.cached_tokens;
    for (const messages of chats) await answer(messages);
    const both = await cached(chats[1]!);
    const one = (await send('delete', BY_PREFIX, { model, messages: chats[0] })).body;
    assert(one.chunks > 0 && one.kept.shared > 0, JSON.stringify(one));
    assert.equal(await cached(chats[1]!), both);
    assert((await cached(chats[0]!)) < both);
    await answer(chats[0]!);
    const all = (await send('delete', BY_PREFIX, { model, messages: [system] })).body;
    assert.equal(all.kept.shared, 0);
    for (const messages of chats) assert.equal(await cached(messages), 0);
  });

  test('is of a salt or a tier alone where it says so, and of warm runs too', async (t) => {
    const { model, send, complete, cached } = await served(t);
    const prompt = 'a'.repeat(100);
    for (const cache_salt of [undefined, 's']) await complete(prompt, '', { cache_salt });
    const salted = await send('delete', BY_PREFIX, { model, prompt: 'aaaa', cache_salt: 's' });
    assert.deepEqual([salted.body.chunks, salted.body.runs], [6, 1]);
    assert.deepEqual([await cached(prompt), await cached(prompt, '', { cache_salt: 's' })], [99, 0]);
    const device = await send('delete', `${BY_PREFIX}&tier=device`, { model, prompt: 'aaaa' });
    assert.deepEqual([device.body.chunks, device.body.runs], [0, 1]);
    assert.equal(await cached(prompt), 96);
    const none = await send('delete', BY_PREFIX, { model, prompt: 'b' });
    assert.deepEqual([none.body.chunks, none.body.runs], [0, 0]);
  });

  test('is refused when its body got lost, or one comes that was not announced', async (t) => {
    const { model, send, complete, cached } = await served(t);
    await complete('a'.repeat(100));
    const refusals = [
      [BY_PREFIX, undefined, 'invalid_json', undefined],
      [BY_PREFIX, { model }, 'invalid_value', 'messages'],
      ['/v1/cache', { model, prompt: 'b' }, 'invalid_value', 'by'],
      ['/v1/cache?by=name', undefined, 'invalid_value', 'by'],
      [`${BY_PREFIX}&model=${model}`, { model, prompt: 'b' }, 'invalid_value', 'model'],
      ['/v1/cache?prefix=a', undefined, 'unsupported_field', 'prefix'],
    ] as const;
    for (const [path, body, code, param] of refusals) {
      const answer = await send('delete', path, body);
      assert.deepEqual([answer.body.error?.code, answer.body.error?.param ?? undefined], [code, param], path);
    }
    assert.equal(await cached('a'.repeat(100)), 99);
  });
});

suite('what is in use', () => {
  test('and pinned stays, with what it stands behind', async (t) => {
    const { backend, model, send, complete, cached } = await served(t);
    const pinned = 'p'.repeat(64);
    const { id } = (await send('post', '/v1/cache/pins', { model, prompt: pinned })).body;
    await complete(`${pinned}${'q'.repeat(32)}.`);
    backend.cache.dropWarm();
    const { body } = await send('delete', '/v1/cache');
    assert.deepEqual([body.chunks, body.kept], [2, { pinned: 4, shared: 0 }]);
    assert.equal(await cached(`${pinned}.`), 64);
    await send('delete', `/v1/cache/pins/${id}`);
    assert.equal((await send('delete', BY_PREFIX, { model, prompt: 'pp' })).body.chunks, 4);
    assert.equal(await cached(`${pinned}.`), 0);
  });

  test('and read is read to its end, and is said to be', async (t) => {
    const { backend, model, send } = await served(t);
    const prompt = 'b'.repeat(300);
    let clearing: Promise<{ body: { in_use: { runs: number }; runs: number } }> | undefined;
    backend.tap.onRequest = ({ op }) => {
      if (op === 'decode') clearing ??= send('delete', BY_PREFIX, { model, prompt: 'bb' });
    };
    const body = { model, prompt, max_tokens: 40, temperature: 0, logit_bias: { 97: 100 } };
    const answer = await send('post', '/v1/completions', body);
    assert.equal(answer.body.choices[0].text, 'a'.repeat(40));
    const cleared = await clearing!;
    assert.deepEqual([cleared.body.runs, cleared.body.in_use.runs], [1, 1]);
    await backend.scheduler.idle();
    assert.deepEqual(backend.cache.audit(), { activeRuns: 0, leases: 0 });
  });
});

async function withTenants(t: TestContext) {
  const keys = testKeys(t);
  const [a, b, admin] = [keys.create('a'), keys.create('b'), keys.create('ops', 'admin')];
  return { a, b, admin, ...(await served(t, {}, keys.access())) };
}

suite('forgetting a tenant', () => {
  test('takes all its parts, by name for admins, and for itself', async (t) => {
    const { a, b, admin, send, complete, cached } = await withTenants(t);
    const prompt = 'a'.repeat(100);
    const fill = async () => {
      for (const key of [a, b])
        for (const cache_salt of [undefined, 's']) await complete(prompt, key, { cache_salt });
    };
    const found = async (key: string) => [
      await cached(prompt, key),
      await cached(prompt, key, { cache_salt: 's' }),
    ];
    await fill();
    const refused = await send('delete', '/v1/cache?tenant=b', undefined, a);
    assert.equal(refused.body.error.code, 'insufficient_permissions');
    assert.equal((await send('delete', '/v1/cache?tenant=*', undefined, a)).status, 403);
    assert.equal((await send('delete', '/v1/cache?tenant=b', undefined, admin)).body.chunks, 12);
    assert.deepEqual(
      [await found(a), await found(b)],
      [
        [99, 99],
        [0, 0],
      ],
    );
    assert.equal(
      (await send('delete', '/v1/cache?tenant=nobody', undefined, admin)).body.error.param,
      'tenant',
    );
    assert.equal((await send('delete', '/v1/cache?tenant=a', undefined, a)).body.chunks, 12);
    await fill();
    assert.equal((await send('delete', '/v1/cache?tenant=*&tier=host', undefined, admin)).body.chunks, 24);
    assert.deepEqual(await found(a), [99, 99], 'the device still has it');
    await send('delete', '/v1/cache?tenant=*', undefined, admin);
    assert.deepEqual(
      [await found(a), await found(b)],
      [
        [0, 0],
        [0, 0],
      ],
    );
  });

  test('without keys is by the name that statistics have of it', async (t) => {
    const { send, complete, cached, backend } = await served(t);
    for (const key of ['', 'one']) await complete('a'.repeat(100), key);
    const [, owner] = backend.controls.desk.owners().toSorted();
    const { body } = await send('delete', `/v1/cache?tenant=${owner!.slice(0, 16)}`);
    assert.equal(body.chunks, 6, JSON.stringify(body));
    assert.deepEqual([await cached('a'.repeat(100)), await cached('a'.repeat(100), 'one')], [99, 0]);
    assert.equal((await send('delete', '/v1/cache?tenant=anonymous')).body.chunks, 6);
  });
});

test('a model is the served one, or all: then what others left on the disk goes too', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-clear-'));
  const other = await mkdtemp(join(tmpdir(), 'radixkv-clear-'));
  await importModel({ path: TINY_MODEL, directory: other, weights: 'int8' });
  const disk = { directory, capacityBytes: 64 * 2 ** 20, freeBytesMin: 0, codec: 'auto' } as const;
  const before = await served(t, { disk });
  await before.complete('a'.repeat(100));
  await before.backend.close();
  const keys = testKeys(t);
  const [user, admin] = [keys.create('a'), keys.create('ops', 'admin')];
  const { backend, model, send } = await served(t, { disk, modelDirectory: other }, keys.access());
  t.after(() => Promise.all([directory, other].map((path) => rm(path, { recursive: true, force: true }))));
  await backend.cache.opened;
  const diskBytes = () => backend.cache.reading().prefixes!.tiers.disk!.bytes;
  assert(diskBytes() > 0);
  assert.equal((await send('delete', '/v1/cache?model=another', undefined, user)).status, 404);
  assert.equal((await send('delete', '/v1/cache?model=*', undefined, user)).status, 403);
  await send('delete', `/v1/cache?model=${model}`, undefined, admin);
  assert(diskBytes() > 0);
  assert.equal((await send('delete', '/v1/cache?model=*', undefined, admin)).body.chunks, 6);
  assert.equal(diskBytes(), 0);
});
