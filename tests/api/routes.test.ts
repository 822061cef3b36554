import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { pino } from 'pino';
import supertest from 'supertest';
import { createApp } from '../../src/api/app.js';
import { fakeApp } from '../support/fake-app.js';

// biome-ignore lint/suspicious/noExplicitAny: a serializer that leaves the bytes alone
const asIs = (bytes: any) => bytes;

const CHAT = { model: 'fake/model-1', messages: [{ role: 'user', content: 'Hello there' }] };

test('the served model is listed, and found by its id with slashes encoded or not', async () => {
  const { app } = fakeApp();
  const model = {
    id: 'fake/model-1',
    object: 'model',
    created: 1_700_000_000,
    owned_by: 'radixkv',
    max_model_len: 2048,
  };
  const list = await supertest(app).get('/v1/models').expect(200);
  assert.deepEqual(list.body, { object: 'list', data: [model] });
  for (const path of ['/v1/models/fake/model-1', '/v1/models/fake%2Fmodel-1']) {
    assert.deepEqual((await supertest(app).get(path).expect(200)).body, model);
  }
  const missing = await supertest(app).get('/v1/models/other').expect(404);
  assert.deepEqual([missing.body.error.code, missing.body.error.param], ['model_not_found', 'model']);
});

test('a server that is not ready is alive and says why', async () => {
  const { app, service } = fakeApp();
  await supertest(app).get('/health/ready').expect(200, { status: 'ready' });
  service.unreadyReason = 'the engine restarts';
  await supertest(app)
    .get('/health/ready')
    .expect(503, { status: 'not_ready', reason: 'the engine restarts' })
    .expect('retry-after', '1');
  await supertest(app).get('/health/live').expect(200, { status: 'live' });
});

test('unknown paths, wrong methods and broken paths get errors in the same shape', async () => {
  const { app } = fakeApp();
  const cases = [
    ['get', '/nowhere', 404, 'not_found'],
    ['post', '/v1/embeddings', 404, 'not_found'],
    ['get', '/v1/chat/completions', 405, 'method_not_allowed'],
    ['delete', '/v1/models/fake%2Fmodel-1', 405, 'method_not_allowed'],
    ['post', '/metrics', 405, 'method_not_allowed'],
    ['get', '/v1/models/%E0%A4%A', 400, 'malformed_request'],
  ] as const;
  for (const [method, path, status, code] of cases) {
    const response = await supertest(app)[method](path);
    assert.deepEqual([response.status, response.body.error?.code], [status, code], path);
    assert.deepEqual(Object.keys(response.body.error), ['message', 'type', 'code', 'param']);
    if (status === 405) assert.match(response.headers.allow!, /^(GET|POST)$/);
  }
});

test('bodies that are not small JSON in a known encoding are refused for what they are', async () => {
  const { app } = fakeApp({ limits: { bodyBytesMax: 2000 } });
  const post = () => supertest(app).post('/v1/chat/completions');
  const json = (encoding: string) =>
    post().set('content-type', 'application/json').set('content-encoding', encoding);
  const text = JSON.stringify(CHAT);
  const bomb = gzipSync(JSON.stringify({ ...CHAT, user: 'x'.repeat(100_000) }));
  const cases = [
    [post().type('application/json').send('{"model": secret'), 400, 'invalid_json'],
    [post().type('application/json'), 400, 'invalid_json'],
    [post(), 415, 'unsupported_media_type'],
    [post().type('application/json').send('"text"'), 400, 'invalid_value'],
    [post().type('application/json').send('null'), 400, 'invalid_value'],
    [post().type('application/json').send('[]'), 400, 'invalid_value'],
    [post().type('text/plain').send(text), 415, 'unsupported_media_type'],
    [post().type('application/json; charset=latin1').send(text), 415, 'unsupported_media_type'],
    [post().type('application/json; charset=utf-8').send('{'), 400, 'invalid_json'],
    [json('rot13').send(text), 415, 'unsupported_media_type'],
    [json('gzip').send(text), 400, 'malformed_request'],
    [json('gzip').serialize(asIs).send(bomb), 413, 'body_too_large'],
    [post().send({ ...CHAT, user: 'x'.repeat(3000) }), 413, 'body_too_large'],
  ] as const;
  for (const [request, status, code] of cases) {
    const response = await request;
    assert.deepEqual([response.status, response.body.error?.code], [status, code]);
    assert.doesNotMatch(response.text, /secret/);
  }
});

test('a body may be as long as its limit in text, but not in values or fields', async () => {
  const { app } = fakeApp({ limits: { jsonValuesMax: 10, jsonFieldsMax: 8 } });
  const text = { ...CHAT, user: '[{:",\\'.repeat(1000) };
  await supertest(app).post('/v1/chat/completions').send(text).expect(200);
  for (const excess of [{ prompt: Array(11).fill(1) }, { a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1 }]) {
    const { body } = await supertest(app)
      .post('/v1/completions')
      .send({ model: 'fake/model-1', ...excess })
      .expect(413);
    assert.equal(body.error.code, 'body_too_large');
  }
});

test('a sane x-request-id is echoed, any other is replaced, and errors have one too', async () => {
  const { app } = fakeApp();
  const idOf = async (given?: string) => {
    const request = supertest(app).get('/nowhere');
    if (given !== undefined) request.set('x-request-id', given);
    return (await request).headers['x-request-id']!;
  };
  assert.equal(await idOf('trace-1.a:b'), 'trace-1.a:b');
  assert.match(await idOf(), /^req_[0-9a-f]{32}$/);
  assert.match(await idOf('a b"'), /^req_/);
  assert.match(await idOf('x'.repeat(129)), /^req_/);
});

test('the headers harden without sending a browser to https', async () => {
  const { app } = fakeApp();
  const { headers } = await supertest(app).get('/health/live');
  assert.equal(headers['x-content-type-options'], 'nosniff');
  assert.equal(headers['strict-transport-security'], undefined);
  assert.doesNotMatch(headers['content-security-policy']!, /upgrade-insecure-requests/);
  assert.equal(headers['x-powered-by'], undefined);
});

test('a request leaves one log line, without prompt, answer, query or credentials', async () => {
  const lines: string[] = [];
  const sink = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  const { service, statistics } = fakeApp();
  const app = createApp({ service, statistics, logger: pino({}, sink) });
  const post = () =>
    supertest(app)
      .post('/v1/chat/completions?key=querysecret')
      .set('authorization', 'Bearer keysecret')
      .set('x-request-id', 'trace-7');
  await post().send({ ...CHAT, messages: [{ role: 'user', content: 'promptsecret' }] });
  await post().type('application/json').send('{"messages": promptsecret');
  service.reply = () => {
    throw new TypeError('what went wrong');
  };
  await post().send(CHAT);
  const logged = lines.map((line) => JSON.parse(line));
  assert.deepEqual(
    logged.map(({ level, req, res, err }) => [level, req, res, err?.cause?.message]),
    [200, 400, 500].map((status, at) => [
      [30, 40, 50][at],
      { id: 'trace-7', method: 'POST', path: '/v1/chat/completions' },
      { status },
      status === 500 ? 'what went wrong' : undefined,
    ]),
  );
  assert.doesNotMatch(lines.join(''), /secret|quick|authorization/i);
});
