/** KV from one server to another as an archive, over HTTP: what hits there, and what never comes in. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import express from 'express';
import type { Access } from '../../src/api/identity.js';
import { startServer } from '../../src/api/server.js';
import { createProgram } from '../../src/cli/program.js';
import type { Terminal } from '../../src/cli/terminal.js';
import { importModel } from '../../src/model/importer.js';
import type { BackendOptions } from '../../src/server.js';
import { TINY_CHUNK_BYTES, TINY_MODEL } from '../support/backend.js';
import { testKeys } from '../support/key-files.js';
import { type Served, served } from '../support/served.js';

const PROMPT = 'The lighthouse stands at the end of the long pier, and nobody has lit its lamp for years.';
const WHOLE = Math.floor(PROMPT.length / 16) * 16;
const TYPE = 'application/vnd.radixkv.archive';

interface Site extends Served {
  readonly url: string;
  readonly exported: (
    body?: object,
    key?: string,
    query?: string,
  ) => Promise<{ status: number; bytes: Buffer<ArrayBuffer> }>;
  readonly imported: (
    bytes: Uint8Array<ArrayBuffer>,
    key?: string,
    query?: string,
    headers?: Record<string, string>,
  ) => Promise<{ status: number; body: Answer }>;
}

interface Answer {
  readonly imported: number;
  readonly present: number;
  readonly rejected: Record<string, number>;
  readonly exact: boolean;
  readonly error?: { readonly code: string; readonly message: string; readonly param: string | null };
}

async function site(t: TestContext, options: Partial<BackendOptions> = {}, access?: Access): Promise<Site> {
  const all = await served(t, options, access);
  const server = await startServer({ app: all.app, host: '127.0.0.1', port: 0, shutdownTimeoutMs: 0 });
  t.after(() => server.close());
  const post = (
    path: string,
    key: string,
    body: Uint8Array<ArrayBuffer> | string,
    headers: Record<string, string>,
  ) =>
    fetch(`${server.url}${path}`, {
      method: 'POST',
      headers: { ...(key !== '' && { authorization: `Bearer ${key}` }), ...headers },
      body,
    });
  return {
    ...all,
    url: server.url,
    exported: async (body = {}, key = '', query = '') => {
      const text = JSON.stringify({ model: all.model, ...body });
      const answer = await post(`/v1/cache/export${query}`, key, text, {
        'content-type': 'application/json',
      });
      return { status: answer.status, bytes: Buffer.from(await answer.arrayBuffer()) };
    },
    imported: async (bytes, key = '', query = '', headers = {}) => {
      const answer = await post(`/v1/cache/import${query}`, key, bytes, { 'content-type': TYPE, ...headers });
      return { status: answer.status, body: JSON.parse(await answer.text()) };
    },
  };
}

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'radixkv-archive-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

const said = ({ body }: { body: Answer }) => [body.imported, body.present, body.rejected];
const NONE = { no_room: 0, no_parent: 0, unknown_tenant: 0 };

suite('an archive', () => {
  test('makes another server hit, and answer the same, over its restart', async (t) => {
    const directory = await folder(t);
    const disk = { directory, capacityBytes: 64 * 2 ** 20, freeBytesMin: 0, codec: 'auto' } as const;
    const from = await site(t);
    const ask = { max_tokens: 24, temperature: 0, logprobs: 1 };
    const { body: cold } = await from.complete(PROMPT, '', ask);
    const { status, bytes } = await from.exported();
    assert.equal(status, 200);
    const before = await site(t, { disk });
    await before.backend.cache.opened;
    const answer = await before.imported(bytes);
    assert.deepEqual([answer.status, answer.body.exact], [200, true], JSON.stringify(answer.body));
    assert(answer.body.imported >= WHOLE / 16);
    await before.backend.close();
    const to = await site(t, { disk });
    await to.backend.cache.opened;
    assert.deepEqual(said(await to.imported(bytes)), [0, answer.body.imported, NONE]);
    const { body: warm } = await to.complete(PROMPT, '', ask);
    assert(warm.timings.cached_tokens.disk >= WHOLE);
    assert.deepEqual(warm.choices, cold.choices);
    to.backend.cache.audit();
  });

  test('has one prompt, a part that a salt sets apart, or all', async (t) => {
    const from = await site(t);
    for (const cache_salt of [undefined, 's']) await from.complete(PROMPT, '', { cache_salt });
    await from.complete('another prompt, which is not wanted');
    const one = await from.exported({ prompt: PROMPT });
    const salted = await from.exported({ cache_salt: 's' });
    const to = await site(t);
    assert.deepEqual(said(await to.imported(one.bytes)), [WHOLE / 16, 0, NONE]);
    assert.deepEqual(
      [await to.cached(PROMPT), await to.cached('another prompt, which is not wanted')],
      [WHOLE, 0],
    );
    assert.equal(await to.cached(PROMPT, '', { cache_salt: 's' }), 0);
    assert.equal((await to.imported(salted.bytes)).body.imported, WHOLE / 16);
    assert.equal(await to.cached(PROMPT, '', { cache_salt: 's' }), WHOLE);
    const none = await from.exported({ prompt: 'what nobody has asked for yet' });
    assert.deepEqual([none.status, JSON.parse(none.bytes.toString()).error.code], [409, 'not_cached']);
  });

  test('brings stored passages too', async (t) => {
    const directory = await folder(t);
    const stored = async (name: string) => {
      const one = await site(t, { documentsFile: join(directory, name) });
      const library = one.backend.documents!;
      const passage = { title: undefined, text: 'The lamp was lit by Ada, every evening, for forty years.' };
      return {
        ...one,
        put: () => library.put('', 'lamp', { passage, ttlMs: undefined, isPinned: false }, () => {}),
        library,
      };
    };
    const ready = async ({ library }: Awaited<ReturnType<typeof stored>>) => {
      while (library.read('', 'lamp')!.status !== 'ready')
        await new Promise((resolve) => setTimeout(resolve, 5));
      return library.read('', 'lamp')!;
    };
    const from = await stored('from.sqlite');
    from.put();
    await ready(from);
    const to = await stored('to.sqlite');
    await to.imported((await from.exported()).bytes);
    const computed = to.backend.tap.prefilled();
    to.put();
    await ready(to);
    assert.equal(to.backend.tap.prefilled(), computed, 'nothing was computed');
  });

  test('never takes more than the tier that it goes to, the beginnings first', async (t) => {
    const from = await site(t);
    for (const letter of ['a', 'b', 'c']) await from.complete(letter.repeat(16 * 20));
    const to = await site(t, { hostBytes: 32 * TINY_CHUNK_BYTES, segmentShare: 0 });
    const { body } = await to.imported((await from.exported()).bytes);
    assert.deepEqual([body.imported, body.rejected.no_room! + body.rejected.no_parent!], [32, 28]);
    assert.equal(to.backend.cache.reading().prefixes!.tiers.host!.chunks, 32);
    assert.equal(await to.cached(`${'a'.repeat(16 * 20)}.`), 16 * 20);
    to.backend.cache.audit();
  });

  test('while requests compute the same prompts is taken in beside them', async (t) => {
    const from = await site(t);
    const prompts = Array.from({ length: 6 }, (_, i) => `${i} ${PROMPT} ${PROMPT}`);
    for (const prompt of prompts) await from.complete(prompt);
    const { bytes } = await from.exported();
    const directory = await folder(t);
    const disk = { directory, capacityBytes: 64 * 2 ** 20, freeBytesMin: 0, codec: 'auto' } as const;
    const to = await site(t, { disk });
    await to.backend.cache.opened;
    await Promise.all([to.imported(bytes), ...prompts.map((prompt) => to.complete(prompt))]);
    to.backend.cache.audit();
    for (const prompt of prompts) assert((await to.cached(prompt)) >= prompt.length - 16);
    await to.backend.close();
  });
});

suite('what an archive may not do', () => {
  test('a damaged or cut one says so and what came in, and what came in is right', async (t) => {
    const from = await site(t);
    const { body: cold } = await from.complete(PROMPT, '', { max_tokens: 8, temperature: 0 });
    const { bytes } = await from.exported();
    for (const share of [0.02, 0.3, 0.6, 0.9, 0.999]) {
      const to = await site(t);
      const at = Math.floor(bytes.byteLength * share);
      const flipped = Buffer.from(bytes);
      flipped[at]! ^= 4;
      for (const bad of [flipped, bytes.subarray(0, at)]) {
        const { status, body } = await to.imported(Buffer.from(bad));
        assert.deepEqual([status, body.error?.code], [400, 'archive_invalid'], body.error?.message);
        assert.match(body.error!.message, /\d+ chunks were imported, \d+ were here, 0 were rejected/);
      }
      const { body: warm } = await to.complete(PROMPT, '', { max_tokens: 8, temperature: 0 });
      assert.equal(warm.choices[0].text, cold.choices[0].text);
    }
  });

  test('one of another model, of no model, in a compression, or of another type is refused by name', async (t) => {
    const directory = await folder(t);
    await importModel({ path: TINY_MODEL, directory, weights: 'int8' });
    const other = await site(t, { modelDirectory: directory });
    await other.complete(PROMPT);
    const { bytes } = await other.exported();
    const to = await site(t);
    const mismatch = await to.imported(bytes);
    assert.deepEqual([mismatch.status, mismatch.body.error?.code], [409, 'archive_mismatch']);
    assert(mismatch.body.error!.message.includes(other.model));
    assert.equal((await to.imported(Buffer.from('{}'.repeat(100)))).body.error?.code, 'archive_invalid');
    const gzipped = await to.imported(bytes, '', '', { 'content-encoding': 'gzip' });
    assert.equal(gzipped.body.error?.code, 'unsupported_media_type');
    const json = await to.imported(bytes, '', '', { 'content-type': 'application/json' });
    assert.equal(json.body.error?.code, 'unsupported_media_type');
    assert.equal(await to.cached(PROMPT), 0);
  });

  test('a user brings none that is not sealed, an admin for whom he names, and nobody into what is not his', async (t) => {
    const keys = testKeys(t);
    const [a, b, admin] = [keys.create('a'), keys.create('b'), keys.create('ops', 'admin')];
    const from = await site(t, {}, keys.access());
    await from.complete(PROMPT, a);
    const { bytes } = await from.exported({}, a);
    assert.equal(
      (await from.exported({}, b)).bytes.byteLength < TINY_CHUNK_BYTES,
      true,
      'of others there is nothing',
    );
    for (const query of ['?tenant=a', '?tenant=*'])
      assert.equal((await from.exported({}, b, query)).status, 403);
    const to = await site(t, {}, keys.access());
    assert.equal((await to.imported(bytes, a)).body.error?.code, 'insufficient_permissions');
    assert.equal((await to.imported(bytes, b, '?tenant=a')).body.error?.code, 'insufficient_permissions');
    assert.equal((await to.imported(bytes, admin, '?tenant=b')).body.imported, WHOLE / 16);
    assert.deepEqual(
      [await to.cached(PROMPT, a), await to.cached(PROMPT, b), await to.cached(PROMPT, admin)],
      [0, WHOLE, 0],
    );
    assert.equal((await to.imported(bytes, admin, '?tenant=*')).body.error?.param, 'tenant');
  });

  test('one of all tenants goes to those of the same names, and to nobody else', async (t) => {
    const [here, there] = [testKeys(t), testKeys(t)];
    const [a, b, admin] = [here.create('a'), here.create('b.c'), here.create('ops', 'admin')];
    const from = await site(t, {}, here.access());
    for (const key of [a, b]) await from.complete(PROMPT, key);
    await from.complete(PROMPT, b, { cache_salt: 's' });
    const { bytes } = await from.exported({}, admin, '?tenant=*');
    const [b2, admin2] = [there.create('b.c'), there.create('ops', 'admin')];
    const to = await site(t, {}, there.access());
    const answer = await to.imported(bytes, admin2, '?tenant=*');
    assert.deepEqual(said(answer), [2 * (WHOLE / 16), 0, { ...NONE, unknown_tenant: WHOLE / 16 }]);
    assert.deepEqual(
      [await to.cached(PROMPT, b2), await to.cached(PROMPT, b2, { cache_salt: 's' })],
      [WHOLE, WHOLE],
    );
    assert.equal((await to.imported(bytes, admin2)).body.error?.param, 'tenant');
  });

  test('under an encryption key it is sealed: users may bring it, and only who has the key reads it', async (t) => {
    const keys = testKeys(t);
    const [a, admin] = [keys.create('a'), keys.create('ops', 'admin')];
    const diskOf = async (fill: number) => ({
      directory: await folder(t),
      capacityBytes: 64 * 2 ** 20,
      freeBytesMin: 0,
      codec: 'auto' as const,
      encryptionKey: Buffer.alloc(32, fill),
    });
    const from = await site(t, { disk: await diskOf(1) }, keys.access());
    await from.complete(PROMPT, a);
    const { bytes } = await from.exported({}, a);
    const tokens = Buffer.from(Int32Array.from(Buffer.from(PROMPT.slice(0, 8))).buffer);
    assert(!bytes.includes(tokens), 'no prompt is in it');
    const same = await site(t, { disk: await diskOf(1) }, keys.access());
    assert.equal((await same.imported(bytes, a)).body.imported, WHOLE / 16);
    const other = await site(t, { disk: await diskOf(2) }, keys.access());
    assert.equal((await other.imported(bytes, admin)).body.error?.code, 'archive_mismatch');
    const plain = await site(t, {}, keys.access());
    assert.equal((await plain.imported(bytes, admin)).body.error?.code, 'archive_mismatch');
    await plain.complete(PROMPT, a);
    const open = await plain.exported({}, a);
    assert(open.bytes.includes(tokens), 'this test can tell');
    assert.equal((await other.imported(open.bytes, a)).body.error?.code, 'insufficient_permissions');
    for (const { backend } of [from, same, other]) await backend.close();
  });
});

test('computed on another kind of processor, it is no hit for exact requests', async (t) => {
  const from = await site(t);
  await from.complete(PROMPT);
  const { bytes } = await from.exported();
  const at = bytes.indexOf('"processor":"') + '"processor":"'.length;
  bytes.write('x86', at);
  const to = await site(t);
  // The hash of the whole tells of the change, after the chunks are in.
  assert.equal((await to.imported(bytes)).body.error?.code, 'archive_invalid');
  const exact = (await to.complete(PROMPT, '', { cache: { mode: 'exact' } })).body;
  assert.equal(exact.timings.computed_tokens, PROMPT.length);
});

/** Where nothing listens any more. */
async function nowhere(): Promise<string> {
  const server = await startServer({ app: express(), host: '127.0.0.1', port: 0, shutdownTimeoutMs: 0 });
  await server.close();
  return server.url;
}

function recorder() {
  const lines: string[] = [];
  const terminal: Terminal = {
    print: (line) => void lines.push(line),
    frame: () => assert.fail('no frames'),
    note: (line) => void lines.push(line),
    progress: ({ phase, done, total }) => assert(done <= total, phase),
    endProgress: () => undefined,
  };
  return { lines, terminal };
}

test('the command line moves KV from server to server, and says what is wrong', async (t) => {
  const directory = await folder(t);
  const [from, to] = [await site(t), await site(t)];
  await from.complete(PROMPT);
  const { lines, terminal } = recorder();
  const run = (...words: string[]) =>
    createProgram(terminal).parseAsync(['cache', ...words], { from: 'user' });
  const file = join(directory, 'kv');
  await run('export', file, '--url', from.url, '--prompt', PROMPT);
  await run('import', file, '--url', `${to.url}/`);
  assert.match(lines[0]!, /^exported \d+(\.\d+)? KiB to /);
  assert.equal(lines[1], `${WHOLE / 16} chunks imported, 0 were there`);
  assert.equal(await to.cached(PROMPT), WHOLE);
  const half = join(directory, 'half');
  await writeFile(half, (await readFile(file)).subarray(0, 9000));
  await assert.rejects(
    run('import', half, '--url', to.url),
    /The archive can't be used: it ends at byte 9000/,
  );
  await assert.rejects(run('import', join(directory, 'none'), '--url', to.url), /none can't be read/);
  await assert.rejects(run('export', half, '--url', from.url, '--prompt', 'x'.repeat(40)), /no whole chunk/);
  await assert.rejects(run('export', half, '--url', await nowhere()), /can't be reached: ECONNREFUSED/);
  assert.equal((await readFile(half)).byteLength, 9000, 'what could not be exported leaves a file as it was');
});
