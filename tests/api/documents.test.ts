import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import supertest from 'supertest';
import { createApp } from '../../src/api/app.js';
import type { Limits } from '../../src/api/limits.js';
import { linesOf } from '../../src/api/lines.js';
import { RadixkvError } from '../../src/errors.js';
import { shelf } from '../documents/fixtures.js';
import { fakeApp } from '../support/fake-app.js';
import { gate } from '../support/fake-passages.js';

const CHAT = { model: 'fake/model-1', messages: [{ role: 'user', content: 'Who?' }] };

/** The API over a library of its own. */
function serve(
  t: { after(hook: () => Promise<void>): void },
  { limits = {}, perNamespace = 100 }: { limits?: Partial<Limits>; perNamespace?: number } = {},
) {
  const made = shelf(t, { limits: { documentsPerNamespaceMax: perNamespace } });
  const { service, statistics } = fakeApp();
  service.documents = made.library;
  const app = createApp({ service, statistics, documents: made.library, limits });
  const api = () => supertest(app);
  const batch = (body: string | Buffer) =>
    api().post('/v1/documents/batch').type('application/x-ndjson').serialize(asIs).send(body);
  const { library, passages, clock } = made;
  return { library, passages, clock, made, api, batch };
}

// biome-ignore lint/suspicious/noExplicitAny: a serializer that leaves the bytes alone
const asIs = (bytes: any) => bytes;

suite('PUT, GET and DELETE /v1/documents/{id}', () => {
  test('store a document, tell how it goes, and delete it', async (t) => {
    const { api, passages, made, clock } = serve(t);
    const { work, open } = gate();
    passages.work = work;
    clock.nowMs = 1_700_000_000_900;
    const order = { title: 'Tides', text: 'high at noon', ttl_seconds: 60, pinned: true };
    const put = await api().put('/v1/documents/Doc_1.a:b-c').send(order).expect(202);
    const document = {
      id: 'Doc_1.a:b-c',
      object: 'document',
      title: 'Tides',
      status: 'computing',
      progress: { computed_tokens: 0, tokens: 4 },
      tokens: 4,
      cached_tokens: { device: 0, host: 0, disk: 0, remote: 0 },
      created_at: 1_700_000_000,
      expires_at: 1_700_000_060,
      pinned: true,
    };
    assert.deepEqual(put.body, document);
    open();
    await made.settled('Doc_1.a:b-c');
    const got = await api().get('/v1/documents/Doc_1.a:b-c').expect(200);
    assert.deepEqual(got.body, {
      ...document,
      status: 'ready',
      progress: { computed_tokens: 4, tokens: 4 },
      cached_tokens: { device: 0, host: 4, disk: 0, remote: 0 },
    });
    const deleted = await api().delete('/v1/documents/Doc_1.a%3Ab-c').expect(200);
    assert.deepEqual(deleted.body, { id: 'Doc_1.a:b-c', object: 'document', deleted: true });
    for (const method of ['get', 'delete'] as const) {
      const { body } = await api()[method]('/v1/documents/Doc_1.a:b-c').expect(404);
      assert.deepEqual([body.error.code, body.error.param], ['document_not_found', 'id']);
    }
  });

  test('say why a document failed', async (t) => {
    const { api, passages, made } = serve(t);
    passages.work = () => Promise.reject(new RadixkvError('device_memory_full', 'no memory'));
    await api().put('/v1/documents/a').send({ text: 'x' }).expect(202);
    await made.settled('a');
    const { body } = await api().get('/v1/documents/a').expect(200);
    assert.deepEqual(
      [body.status, body.error],
      ['failed', { code: 'device_memory_full', message: 'no memory' }],
    );
    assert.deepEqual([body.title, body.expires_at, body.pinned], [null, null, false]);
  });

  test('show each API key its own documents', async (t) => {
    const { api } = serve(t);
    await api().put('/v1/documents/a').set('authorization', 'Bearer one').send({ text: 'x' }).expect(202);
    for (const key of ['Bearer two', '']) {
      await api().get('/v1/documents/a').set('authorization', key).expect(404);
      const { body } = await api().get('/v1/documents').set('authorization', key).expect(200);
      assert.deepEqual(body.data, []);
    }
    await api().get('/v1/documents/a').set('authorization', 'bearer one').expect(200);
  });

  const REFUSALS: [body: object, code: string, param: string | null][] = [
    [{}, 'invalid_value', 'text'],
    [{ text: null }, 'invalid_value', 'text'],
    [{ text: '' }, 'invalid_value', 'text'],
    [{ text: 'x'.repeat(301) }, 'invalid_value', 'text'],
    [{ text: 'a\ud800b' }, 'invalid_value', 'text'],
    [{ text: 'word '.repeat(51) }, 'context_length_exceeded', 'text'],
    [{ text: 'x', title: 7 }, 'invalid_value', 'title'],
    [{ text: 'x', ttl_seconds: 0 }, 'invalid_value', 'ttl_seconds'],
    [{ text: 'x', ttl_seconds: 1.5 }, 'invalid_value', 'ttl_seconds'],
    [{ text: 'x', ttl_seconds: 1e12 }, 'invalid_value', 'ttl_seconds'],
    [{ text: 'x', pinned: 'yes' }, 'invalid_value', 'pinned'],
    [{ text: 'x', id: 'a' }, 'unsupported_field', 'id'],
    [[], 'invalid_value', null],
  ];
  for (const [body, code, param] of REFUSALS) {
    test(`refuse ${JSON.stringify(body).slice(0, 60)} as ${code} of ${param}`, async (t) => {
      const { api, library } = serve(t, { limits: { documentCharactersMax: 300 } });
      const response = await api().put('/v1/documents/a').send(body).expect(400);
      assert.deepEqual([response.body.error.code, response.body.error.param], [code, param]);
      assert.equal(library.find('', 'a'), undefined);
    });
  }

  test('refuse ids and methods that there are not', async (t) => {
    const { api } = serve(t);
    for (const id of ['a%20b', 'a%2Fb', 'x'.repeat(257), '%C3%A9']) {
      const { body } = await api().put(`/v1/documents/${id}`).send({ text: 'x' }).expect(400);
      assert.deepEqual([body.error.code, body.error.param], ['invalid_value', 'id'], id);
    }
    await api().post('/v1/documents/a').send({ text: 'x' }).expect(405).expect('allow', 'GET, PUT, DELETE');
    await api().delete('/v1/documents').expect(405).expect('allow', 'GET');
  });

  test('refuse one document too many with library_full', async (t) => {
    const { api } = serve(t, { perNamespace: 1 });
    await api().put('/v1/documents/a').send({ text: 'x' }).expect(202);
    const { body } = await api().put('/v1/documents/b').send({ text: 'x' }).expect(409);
    assert.equal(body.error.code, 'library_full');
  });

  test('are no paths of a server without a library', async () => {
    const { app } = fakeApp();
    for (const path of ['/v1/documents', '/v1/documents/a']) {
      const { body } = await supertest(app).get(path).expect(404);
      assert.equal(body.error.code, 'not_found');
    }
  });
});

suite('GET /v1/documents', () => {
  test('lists page after page, as clients of OpenAI ask for it', async (t) => {
    const { api, put } = bound(serve(t));
    for (const id of ['a', 'b', 'c', 'd', 'e']) put(id, 'text');
    const first = await api().get('/v1/documents?limit=2').expect(200);
    const { data, ...rest } = first.body;
    assert.deepEqual(rest, { object: 'list', first_id: 'a', last_id: 'b', has_more: true });
    assert.deepEqual(
      data.map(({ id, object }: { id: string; object: string }) => [id, object]),
      [
        ['a', 'document'],
        ['b', 'document'],
      ],
    );
    const last = await api().get('/v1/documents?limit=3&after=b').expect(200);
    assert.deepEqual([last.body.first_id, last.body.last_id, last.body.has_more], ['c', 'e', false]);
    const none = await api().get('/v1/documents?after=e').expect(200);
    assert.deepEqual(none.body, { object: 'list', data: [], first_id: null, last_id: null, has_more: false });
  });

  test('has 20 documents a page unless told otherwise', async (t) => {
    const { api, put } = bound(serve(t));
    for (let at = 0; at < 21; at++) put(`id-${at}`, 'text');
    assert.equal((await api().get('/v1/documents').expect(200)).body.data.length, 20);
    assert.equal((await api().get('/v1/documents?limit=100').expect(200)).body.data.length, 21);
  });

  test('refuses what it does not know by name', async (t) => {
    const { api } = serve(t);
    for (const [query, code, param] of [
      ['limit=0', 'invalid_value', 'limit'],
      ['limit=101', 'invalid_value', 'limit'],
      ['limit=two', 'invalid_value', 'limit'],
      ['limit=1&limit=2', 'invalid_value', 'limit'],
      ['after=a%20b', 'invalid_value', 'after'],
      ['order=desc', 'unsupported_field', 'order'],
    ]) {
      const { body } = await api().get(`/v1/documents?${query}`).expect(400);
      assert.deepEqual([body.error.code, body.error.param], [code, param], query);
    }
  });
});

suite('POST /v1/documents/batch', () => {
  test('takes the good lines, and tells what is wrong with the others by their numbers', async (t) => {
    const { batch, library } = serve(t, { limits: { documentCharactersMax: 100, bodyBytesMax: 200 } });
    const { body } = await batch(
      [
        '{"id":"a","title":"One","text":"the first","ttl_seconds":60,"pinned":true}',
        '',
        '  \r',
        '{"id":"b","text":"the second"}\r',
        '{"id":"c"}',
        '{"text":"no id"}',
        '{"id":"d","text":secret}',
        `{"id":"e","text":"${'x'.repeat(101)}"}`,
        `{"id":"f","text":"${'x'.repeat(300)}"}`,
        '{"id":"g","text":"x","mood":1}',
        '{"id":"b","text":"the second, again"}',
      ].join('\n'),
    ).expect(202);
    const { errors, ...rest } = body;
    assert.deepEqual(rest, { object: 'document.batch', accepted: 3, failed: 6 });
    assert.deepEqual(
      errors.map(({ line, code, param }: { line: number; code: string; param: string | null }) => [
        line,
        code,
        param,
      ]),
      [
        [5, 'invalid_value', 'text'],
        [6, 'invalid_value', 'id'],
        [7, 'invalid_json', null],
        [8, 'invalid_value', 'text'],
        [9, 'body_too_large', null],
        [10, 'unsupported_field', 'mood'],
      ],
    );
    assert.doesNotMatch(JSON.stringify(errors), /secret/);
    assert.deepEqual(library.find('', 'a'), { title: 'One', text: 'the first' });
    assert.equal(library.find('', 'b')!.text, 'the second, again');
    assert.deepEqual([library.read('', 'a')!.isPinned, library.read('', 'b')!.isPinned], [true, false]);
  });

  test('lists the first thousand errors, and counts them all', async (t) => {
    const { batch } = serve(t);
    const { body } = await batch('{}\n'.repeat(1500)).expect(202);
    assert.deepEqual([body.accepted, body.failed, body.errors.length], [0, 1500, 1000]);
  });

  test('goes on taking lines when the library is full for some', async (t) => {
    const { batch } = serve(t, { perNamespace: 1 });
    const { body } = await batch(
      '{"id":"a","text":"x"}\n{"id":"b","text":"x"}\n{"id":"a","text":"y"}',
    ).expect(202);
    assert.deepEqual([body.accepted, body.failed, body.errors[0].code], [2, 1, 'library_full']);
  });

  test('refuses other types and compression', async (t) => {
    const { api, batch } = serve(t);
    const json = api().post('/v1/documents/batch').send({ id: 'a', text: 'x' });
    const packed = batch(gzipSync('{"id":"a","text":"x"}')).set('content-encoding', 'gzip');
    for (const request of [json, packed]) {
      const { body } = await request.expect(415);
      assert.equal(body.error.code, 'unsupported_media_type');
    }
  });

  test('leaves the id "batch" to documents', async (t) => {
    const { api } = serve(t);
    await api().put('/v1/documents/batch').send({ text: 'x' }).expect(202);
    await api().get('/v1/documents/batch').expect(200);
  });
});

test('a prompt may name a stored document, by the key that stored it', async (t) => {
  const { api } = serve(t);
  await api()
    .put('/v1/documents/tides')
    .set('authorization', 'Bearer one')
    .send({ text: 'high at noon' })
    .expect(202);
  const ask = (key: string) =>
    api()
      .post('/v1/chat/completions')
      .set('authorization', key)
      .send({ ...CHAT, documents: [{ id: 'tides' }] });
  const { body } = await ask('Bearer one').expect(200);
  assert.equal(body.usage.prompt_tokens, 4);
  const refused = await ask('Bearer two').expect(404);
  assert.deepEqual(
    [refused.body.error.code, refused.body.error.param],
    ['document_not_found', 'documents[0].id'],
  );
});

test('lines are the same however the bytes come in pieces', async () => {
  const text = 'one\n\ntwö\r\nthe long line\nlast';
  const expected = [
    [1, 'one'],
    [2, ''],
    [3, 'twö\r'],
    [4, undefined],
    [5, 'last'],
  ];
  const bytes = Buffer.from(text);
  for (let size = 1; size <= bytes.length; size++) {
    const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, at) =>
      bytes.subarray(at * size, (at + 1) * size),
    );
    const lines: unknown[] = [];
    for await (const line of linesOf(asyncOf(pieces), 6)) lines.push([line.number, line.bytes?.toString()]);
    assert.deepEqual(lines, expected, `pieces of ${size}`);
  }
});

async function* asyncOf<T>(items: readonly T[]): AsyncGenerator<T, void, void> {
  yield* items;
}

function bound(served: ReturnType<typeof serve>) {
  return { ...served, put: served.made.put.bind(served.made) };
}
