import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import OpenAI from 'openai';
import supertest from 'supertest';
import { startServer } from '../../src/api/server.js';
import { fakeApp, sseEvents } from '../support/fake-app.js';

const CHAT = {
  model: 'fake/model-1',
  messages: [{ role: 'user' as const, content: 'Who lit the lamp?' }],
  documents: [{ id: 'lamp', title: 'Lamp', text: 'Ada lit it at dusk' }, { text: 'The sea was calm' }],
};
/** The same documents in the other order, so that nothing but them is known. */
const TURNED = { ...CHAT, documents: CHAT.documents.toReversed(), cache: { explain: true } };
const EXPLANATION = {
  outcome: 'blended',
  selector: 'heads',
  recompute_ratio: 0.25,
  prefix_tokens: 0,
  documents: [
    { index: 0, id: null, start: 0, end: 4, source: 'host' },
    { index: 1, id: 'lamp', start: 4, end: 10, source: 'host' },
  ],
  recomputed: [0, 4, 5],
};

const ask = (app: ReturnType<typeof fakeApp>['app'], body: object) =>
  supertest(app).post('/v1/chat/completions').send(body);

suite('a prompt with documents', () => {
  test('tells exact, blended and computed tokens apart, by tier, and what blending took', async () => {
    const { app } = fakeApp();
    const first = await ask(app, CHAT).expect(200);
    assert.deepEqual(first.body.usage.prompt_tokens_details, { cached_tokens: 0, blended_tokens: 0 });
    assert.equal('blend' in first.body.timings, false);
    const second = await ask(app, TURNED).expect(200);
    assert.deepEqual(second.body.usage.prompt_tokens_details, { cached_tokens: 0, blended_tokens: 7 });
    assert.deepEqual(second.body.timings.blended_tokens, { device: 0, host: 7, disk: 0, remote: 0 });
    assert.equal(second.body.timings.computed_tokens, second.body.usage.prompt_tokens - 7);
    assert.deepEqual(second.body.timings.blend, {
      prepare_ms: 0,
      load_ms: 1,
      rotate_ms: 2,
      select_ms: 3,
      recompute_ms: 4,
    });
  });

  test('is explained when it asks for it, and only then', async () => {
    const { app } = fakeApp();
    await ask(app, CHAT).expect(200);
    const { body } = await ask(app, TURNED).expect(200);
    assert.deepEqual(body.explanation, EXPLANATION);
    const silent = await ask(app, { ...TURNED, cache: { explain: false } }).expect(200);
    assert.equal('explanation' in silent.body, false);
    const exact = await ask(app, TURNED).expect(200);
    assert.deepEqual(
      [
        exact.body.explanation.outcome,
        exact.body.explanation.selector,
        exact.body.explanation.recompute_ratio,
      ],
      ['exact', null, null],
    );
  });

  for (const includeUsage of [true, false]) {
    test(`is explained once in a stream, beside the timings, ${includeUsage ? 'with' : 'without'} usage`, async () => {
      const { app } = fakeApp();
      await ask(app, CHAT).expect(200);
      const { text } = await ask(app, {
        ...TURNED,
        stream: true,
        stream_options: { include_usage: includeUsage },
      }).expect(200);
      const chunks = sseEvents(text).slice(0, -1);
      const last = chunks.pop();
      assert.ok(last.timings.blend);
      assert.deepEqual(last.explanation, EXPLANATION);
      assert.ok(chunks.every((chunk) => !('explanation' in chunk) && !('timings' in chunk)));
    });
  }

  test('whose document is not stored is refused with its place', async () => {
    const { app, service } = fakeApp();
    service.documents = {
      find: (namespace, id) => (id === 'sea' ? { title: undefined, text: namespace } : undefined),
    };
    await ask(app, { ...CHAT, documents: [{ id: 'sea' }] }).expect(200);
    for (const stream of [false, true]) {
      const { status, body } = await ask(app, {
        ...CHAT,
        stream,
        documents: [{ id: 'sea' }, { id: 'land' }],
      });
      assert.deepEqual(
        [status, body.error.code, body.error.param],
        [404, 'document_not_found', 'documents[1].id'],
      );
    }
  });
});

test('a text prompt can be explained too', async () => {
  const { app } = fakeApp();
  const { body } = await supertest(app)
    .post('/v1/completions')
    .send({ model: 'fake/model-1', prompt: 'Hello', cache: { mode: 'auto', explain: true } })
    .expect(200);
  assert.equal(body.explanation.outcome, 'no_documents');
});

test('the openai client passes documents and cache on, and hands back what blending took', async (t) => {
  const { app } = fakeApp();
  const server = await startServer({ app, host: '127.0.0.1', port: 0, shutdownTimeoutMs: 1000 });
  t.after(() => server.close());
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'conformance', maxRetries: 0 });
  await client.chat.completions.create(CHAT);
  const answer: OpenAI.ChatCompletion & { timings?: { blend?: object }; explanation?: object } =
    await client.chat.completions.create(TURNED);
  assert.deepEqual(answer.usage!.prompt_tokens_details, { cached_tokens: 0, blended_tokens: 7 });
  assert.ok(answer.timings!.blend);
  assert.deepEqual(answer.explanation, EXPLANATION);
  const extras: object[] = [];
  for await (const chunk of await client.chat.completions.create({ ...TURNED, stream: true })) {
    if ('explanation' in chunk) extras.push(chunk);
  }
  assert.equal(extras.length, 1);
});
