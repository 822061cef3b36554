/** What reaches the log of the real service at its most talkative: no key, prompt, document or query, whatever goes wrong. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { after as afterAll, type TestContext, test } from 'node:test';
import pino from 'pino';
import supertest from 'supertest';
import { createApp } from '../../src/api/app.js';
import { testBackend } from '../support/backend.js';
import { testKeys } from '../support/key-files.js';

const directory = mkdtempSync(join(tmpdir(), 'radixkv-log-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const PROMPT = 'promptsecret';
const DOCUMENT = 'documentsecret';
const QUERY = 'querysecret';

async function loggedService(t: TestContext) {
  const lines: string[] = [];
  const sink = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  const logger = pino({ level: 'trace' }, sink);
  const disk = {
    directory: join(directory, 'cache'),
    capacityBytes: 2 ** 26,
    freeBytesMin: 0,
    codec: 'auto',
  } as const;
  const backend = await testBackend(t, { logger, disk, documentsFile: join(directory, 'documents.sqlite') });
  const keys = testKeys(t);
  const { service, statistics, documents } = backend;
  assert(documents !== undefined);
  const app = createApp({ service, statistics, documents, logger, access: keys.access() });
  return { backend, keys, app, lines };
}

test('nothing secret is logged, of good requests, refused ones, and those that fail', async (t) => {
  const { backend, keys, app, lines } = await loggedService(t);
  const key = keys.create('a');
  const revoked = keys.create('a');
  keys.file.revokeKey(revoked.slice(0, 11), 1);
  const post = (as: string, body: object | string, path = '/v1/completions') =>
    supertest(app).post(path).set('authorization', `Bearer ${as}`).type('application/json').send(body);
  const body = {
    model: backend.service.model.id,
    prompt: PROMPT,
    max_tokens: 4,
    stop: [PROMPT],
    user: PROMPT,
  };

  await post(key, body).expect(200);
  await post(key, { ...body, stream: true }).expect(200);
  await post(revoked, body).expect(401);
  await post(`${key}x`, body, `/v1/completions?key=${key}&q=${QUERY}`).expect(401);
  await post(key, `{"prompt": ${PROMPT}`).expect(400);
  await post(key, { ...body, [PROMPT]: 1 }).expect(400);
  await post(key, { ...body, prompt: PROMPT.repeat(1000) }).expect(400);
  await post(key, { ...body, model: PROMPT }).expect(404);
  await supertest(app).get(`/v1/documents/${key}`).set('x-api-key', key).expect(404);
  await supertest(app).get(`/v1/models/${key}/${revoked}`).set('x-api-key', key).expect(404);
  await supertest(app).put('/v1/documents/a').set('x-api-key', key).send({ text: DOCUMENT }).expect(202);
  await supertest(app)
    .put('/v1/documents/b')
    .set('x-api-key', key)
    .send({ text: 5, [DOCUMENT]: 1 })
    .expect(400);
  await supertest(app)
    .post('/v1/documents/batch')
    .set('cookie', `key=${key}`)
    .set('x-api-key', key)
    .type('application/x-ndjson')
    .send(`{"id":"c","text":"${DOCUMENT}"}\n{"${DOCUMENT}`)
    .expect(202);
  // The engine dies while it computes.
  backend.tap.onRequest = () => void backend.tap.worker?.terminate();
  await post(key, { ...body, prompt: `${PROMPT} again` }).expect(503);

  const log = lines.join('');
  const statuses = new Set(lines.map((line) => JSON.parse(line).res?.status));
  for (const status of [200, 202, 400, 401, 404, 503]) assert(statuses.has(status), `${status} is logged`);
  assert.match(log, /rk_[\w-]{8}…/, 'a key in a path is cut to its id');
  for (const secret of [PROMPT, DOCUMENT, QUERY, key.slice(11), revoked.slice(11)])
    assert(!log.includes(secret), `${secret} in the log`);
  assert.doesNotMatch(log, /authorization|x-api-key|cookie/i);
  const namespace = keys.file.tenants()[0]!.namespace;
  assert(!log.includes(namespace), 'nor where the tenant keeps its KV');
});
