/** Who comes in, with what credentials, and how often. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { suite, type TestContext, test } from 'node:test';
import express, { type Express } from 'express';
import supertest from 'supertest';
import { createApp } from '../../src/api/app.js';
import { openAiError, respondWithError } from '../../src/api/error-response.js';
import { type Access, identify, identityOf, requireAdminRole } from '../../src/api/identity.js';
import { durationText } from '../../src/api/rate-limit-headers.js';
import { startServer } from '../../src/api/server.js';
import { shelf } from '../documents/fixtures.js';
import { fakeApp } from '../support/fake-app.js';
import { testKeys } from '../support/key-files.js';

const CHAT = { model: 'fake/model-1', messages: [{ role: 'user', content: 'one two three four' }] };

const METHODS = ['get', 'post', 'put', 'delete', 'patch', 'options'] as const;
const GUARDED = [
  '/v1/chat/completions',
  '/v1/completions',
  '/v1/models',
  '/v1/models/fake/model-1',
  '/v1/cache/stats',
  '/v1/cache',
  '/v1/cache/tree',
  '/v1/cache/export',
  '/v1/cache/import',
  '/v1/cache/shared',
  '/v1/cache/tenants',
  '/v1/messages',
  '/v1/documents',
  '/v1/documents/a',
  '/v1/documents/batch',
  '/v1/nowhere',
  '/V1/Models',
  '/v1//models',
  '//v1/models',
  '/%76%31/models',
  '/v1/models/',
  '/health/../v1/models',
  '/metrics/../v1/models',
  '/health/live/v1',
  '/',
];
const OPEN = ['/health/live', '/health/ready', '/metrics', '/dashboard', '/dashboard/browser/main.js'];

/** With everything that there are routes for. */
function guardedApp(t: TestContext, access: Access): Express {
  const { service, statistics } = fakeApp();
  return createApp({ service, statistics, documents: shelf(t).library, access });
}

suite('where keys are required', () => {
  test("nothing but health, metrics and the dashboard's files is answered without one, however it is asked for", async (t) => {
    const keys = testKeys(t);
    keys.create('a');
    const app = guardedApp(t, keys.access());
    for (const path of GUARDED) {
      for (const method of METHODS) {
        const { status, body, headers } = await supertest(app)[method](path);
        assert.equal(status, 401, `${method} ${path}`);
        const said =
          path === '/v1/messages'
            ? [body.error.details.error_code, body.error.type, body.error.details.param]
            : [body.error.code, body.error.type, body.error.param];
        const type = path === '/v1/messages' ? 'authentication_error' : 'invalid_request_error';
        assert.deepEqual(said, ['invalid_api_key', type, null]);
        assert.equal(headers['www-authenticate'], 'Bearer');
        assert.equal(headers['x-should-retry'], 'false');
      }
    }
    for (const path of OPEN) await supertest(app).get(path).expect(200);
  });

  test('a key is taken as a bearer token or as x-api-key, and nothing else is one', async (t) => {
    const keys = testKeys(t);
    const key = keys.create('a');
    const app = guardedApp(t, keys.access());
    const statusWith = async (headers: Record<string, string>) =>
      (await supertest(app).get('/v1/models').set(headers)).status;
    const good = [
      { authorization: `Bearer ${key}` },
      { authorization: `bearer   ${key} ` },
      { 'x-api-key': key },
      { 'x-api-key': key, authorization: 'Bearer wrong' },
    ];
    for (const headers of good) assert.equal(await statusWith(headers), 200, JSON.stringify(headers));
    const bad: Record<string, string>[] = [
      { authorization: `Basic ${Buffer.from(key).toString('base64')}` },
      { authorization: 'Bearer ' },
      { authorization: `Bearer ${key}, Bearer ${key}` },
      { authorization: `Bearer ${key.slice(0, -1)}` },
      { authorization: `Bearer ${key}`, 'x-api-key': 'wrong' },
      { 'x-api-key': `${key}, ${key}` },
      { cookie: `key=${key}` },
    ];
    for (const headers of bad) assert.equal(await statusWith(headers), 401, JSON.stringify(headers));
    assert.equal((await supertest(app).get(`/v1/models?api_key=${key}`)).status, 401);
  });

  test('keys of one tenant are one namespace, and that is none of those without keys', async (t) => {
    const keys = testKeys(t);
    const [a, alsoA, b] = [keys.create('a'), keys.create('a'), keys.create('b')];
    const { app, service } = fakeApp({ access: keys.access() });
    for (const key of [a, alsoA, b]) {
      await supertest(app).post('/v1/chat/completions').set('x-api-key', key).send(CHAT).expect(200);
    }
    const without = fakeApp();
    await supertest(without.app).post('/v1/chat/completions').set('x-api-key', a).send(CHAT).expect(200);
    const [ofA, ofAlsoA, ofB] = service.requests.map(({ namespace }) => namespace);
    assert.equal(ofA, ofAlsoA);
    assert.notEqual(ofA, ofB);
    assert.notEqual(ofA, without.service.requests[0]!.namespace);
    assert.doesNotMatch(JSON.stringify(service.requests), new RegExp(a.slice(11)));
  });

  test('a key that is revoked while the server runs is refused with the next request', async (t) => {
    const keys = testKeys(t);
    const key = keys.create('a');
    const app = guardedApp(t, keys.access());
    await supertest(app).get('/v1/models').set('x-api-key', key).expect(200);
    keys.file.revokeKey(key.slice(0, 11), 1);
    const { body } = await supertest(app).get('/v1/models').set('x-api-key', key).expect(401);
    assert.doesNotMatch(JSON.stringify(body), /rk_/);
  });
});

/** A server with one route, which controls it. */
function controlled(access?: Access): Express {
  const app = express();
  app.use(identify(access));
  app.post('/v1/control', (_req, res) => {
    requireAdminRole(res);
    res.json({ role: identityOf(res).role });
  });
  app.use(respondWithError(openAiError));
  return app;
}

suite('routes for admins', () => {
  test('take keys of that role only', async (t) => {
    const keys = testKeys(t);
    const [user, admin] = [keys.create('a'), keys.create('a', 'admin')];
    const app = controlled(keys.access());
    const post = () => supertest(app).post('/v1/control');
    await post().expect(401);
    const { body } = await post().set('x-api-key', user).expect(403);
    assert.equal(body.error.code, 'insufficient_permissions');
    await post().set('x-api-key', admin).expect(200, { role: 'admin' });
  });

  test('without keys take who is on this machine and asks for it by name', async (t) => {
    const server = await startServer({
      app: controlled(),
      host: '127.0.0.1',
      port: 0,
      shutdownTimeoutMs: 0,
    });
    t.after(() => server.close());
    const port = Number(new URL(server.url).port);
    const statusFor = async (host: string): Promise<string> => {
      const socket = connect(port, '127.0.0.1');
      socket.end(
        `POST /v1/control HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`,
      );
      let text = '';
      for await (const chunk of socket) text += String(chunk);
      return text.slice(9, 12);
    };
    for (const host of ['127.0.0.1', 'localhost', `localhost:${port}`, `[::1]:${port}`])
      assert.equal(await statusFor(host), '200', host);
    for (const host of ['evil.example', `evil.example:${port}`, 'localhost.evil.example', '10.0.0.1'])
      assert.equal(await statusFor(host), '403', host);
  });
});

test('statistics by tenant have its name, and are for admins', async (t) => {
  const keys = testKeys(t);
  const [user, admin] = [keys.create('a'), keys.create('b', 'admin')];
  const { app } = fakeApp({ access: keys.access() });
  for (const key of [user, user, admin]) {
    await supertest(app).post('/v1/chat/completions').set('x-api-key', key).send(CHAT).expect(200);
  }
  const read = (key: string, groupBy: string) =>
    supertest(app).get(`/v1/cache/stats?window=1h&group_by=${groupBy}`).set('x-api-key', key);
  const { body } = await read(admin, 'tenant').expect(200);
  assert.deepEqual(
    body.groups.map((each: { group: string; requests: object }) => [each.group, each.requests]).sort(),
    [
      ['a', { completed: 2, aborted: 0, failed: 0, refused: 0 }],
      ['b', { completed: 1, aborted: 0, failed: 0, refused: 0 }],
    ],
  );
  await read(user, 'tenant').expect(403);
  await read(user, 'model').expect(200);
});

/** A tenant with limits, and what asks in its name. */
function limited(t: TestContext, requestsPerMinute: number | undefined, tokensPerMinute: number | undefined) {
  const keys = testKeys(t);
  const key = keys.create('a');
  keys.file.setLimits('a', { requestsPerMinute, tokensPerMinute });
  const { app, service } = fakeApp({ access: keys.access() });
  const ask = (as = key, body: object = CHAT) =>
    supertest(app).post('/v1/chat/completions').set('x-api-key', as).send(body);
  return { keys, key, service, ask };
}

suite('limits of a tenant', () => {
  test('hold for all its keys together, and for nobody else', async (t) => {
    const { keys, key, ask } = limited(t, 2, undefined);
    const [second, other] = [keys.create('a'), keys.create('b')];
    await ask(key).expect(200);
    await ask(second).expect(200);
    const { body, headers } = await ask(key).expect(429);
    assert.deepEqual([body.error.code, body.error.type], ['rate_limit_exceeded', 'rate_limit_error']);
    assert.equal(headers['retry-after'], '30');
    assert.equal(headers['x-ratelimit-remaining-requests'], '0');
    const unlimited = await ask(other).expect(200);
    assert.equal(unlimited.headers['x-ratelimit-limit-requests'], undefined);
    keys.clock.nowMs += 30_000;
    await ask(key).expect(200);
    await ask(key).expect(429);
  });

  test('of prompt tokens are told in the words of OpenAI, and refuse before anything is computed', async (t) => {
    const { keys, key, service, ask } = limited(t, 60, 10);
    const { headers } = await ask().expect(200);
    assert.deepEqual(
      ['limit', 'remaining', 'reset'].flatMap((what) =>
        ['requests', 'tokens'].map((of) => headers[`x-ratelimit-${what}-${of}`]),
      ),
      ['60', '10', '59', '6', '1s', '24s'],
    );
    await ask().expect(200);
    const refused = await ask(key, { ...CHAT, stream: true }).expect(429);
    assert.match(refused.headers['content-type']!, /json/);
    assert.equal(refused.headers['retry-after'], '12');
    assert.equal(service.activeRequests, 0);
    keys.clock.nowMs += 12_000;
    const stream = await ask(key, { ...CHAT, stream: true }).expect(200);
    assert.equal(stream.headers['x-ratelimit-remaining-tokens'], '0');
  });

  test('that a prompt can never keep refuse it for good', async (t) => {
    const { ask } = limited(t, undefined, 3);
    const { body, headers } = await ask().expect(400);
    assert.equal(body.error.code, 'prompt_over_rate_limit');
    assert.equal(headers['x-should-retry'], 'false');
    assert.equal(headers['retry-after'], undefined);
  });

  test('change while the server runs, and keep what was used', async (t) => {
    const { keys, ask } = limited(t, 2, undefined);
    await ask().expect(200);
    keys.file.setLimits('a', { requestsPerMinute: 1, tokensPerMinute: undefined });
    await ask().expect(429);
    keys.file.setLimits('a', { requestsPerMinute: 5, tokensPerMinute: undefined });
    await ask().expect(200);
    keys.file.setLimits('a', { requestsPerMinute: undefined, tokensPerMinute: undefined });
    for (let i = 0; i < 10; i++) await ask().expect(200);
  });

  test('count the tokens of documents that are stored, but not of those that are there', async (t) => {
    const keys = testKeys(t);
    const key = keys.create('a');
    keys.file.setLimits('a', { requestsPerMinute: undefined, tokensPerMinute: 5 });
    const made = shelf(t);
    const { service, statistics } = fakeApp();
    const app = createApp({ service, statistics, documents: made.library, access: keys.access() });
    const put = (id: string, text: string) =>
      supertest(app).put(`/v1/documents/${id}`).set('x-api-key', key).send({ text });
    await put('one', 'three words here').expect(202);
    await made.settled('one', keys.file.tenants()[0]!.namespace);
    await put('one', 'three words here').expect(202);
    await put('two', 'three other words').expect(429);
    await supertest(app).get('/v1/documents/two').set('x-api-key', key).expect(404);
    const { body } = await supertest(app)
      .post('/v1/documents/batch')
      .set('x-api-key', key)
      .type('application/x-ndjson')
      .send('{"id":"two","text":"three other words"}\n{"id":"three","text":"two words"}')
      .expect(202);
    assert.deepEqual([body.accepted, body.errors[0].code], [1, 'rate_limit_exceeded']);
  });
});

test('times are written as OpenAI writes them, rounded up', () => {
  assert.deepEqual([0, 0.2, 999, 1000, 1500, 59_999, 60_000, 361_500].map(durationText), [
    '0ms',
    '1ms',
    '999ms',
    '1s',
    '1.5s',
    '59.999s',
    '1m0s',
    '6m1.5s',
  ]);
});
