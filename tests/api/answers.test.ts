import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import supertest from 'supertest';
import { RadixkvError } from '../../src/errors.js';
import { type CompletionEvent, NO_TOKENS } from '../../src/serving/completion.js';
import { fakeApp, sseEvents } from '../support/fake-app.js';
import type { Reply } from '../support/fake-service.js';

const CHAT = { model: 'fake/model-1', messages: [{ role: 'user', content: 'Hello there' }] };
const TEXT = { model: 'fake/model-1', prompt: 'Hello there', max_tokens: 9 };
const USAGE = {
  promptTokens: 9,
  completionTokens: 3,
  cachedTokens: { device: 4, host: 2, disk: 0, remote: 0 },
  blendedTokens: NO_TOKENS,
  computedTokens: 3,
};
const TIMINGS = { queueMs: 1, loadMs: 0, prefillMs: 20, blend: undefined, decodeMs: 100, ttftMs: 21 };

function tokenOf(token: string, bytes: number[]) {
  return { token, bytes, logprob: -1, top: [] };
}

/** A model that says `events`, then fails with `error` if there is one. */
function scripted(events: readonly CompletionEvent[], error?: Error): Reply {
  return async function* () {
    yield* events;
    if (error !== undefined) throw error;
  };
}

interface Chunk {
  id: string;
  object: string;
  created: number;
  model: string;
  choices: {
    index: number;
    text?: string;
    delta?: { role?: string; content?: string };
    logprobs: { content?: object[]; tokens?: string[]; text_offset?: number[] } | null;
    finish_reason: string | null;
  }[];
  usage?: object | null;
  timings?: object;
}

async function stream(app: ReturnType<typeof fakeApp>['app'], path: string, body: object): Promise<Chunk[]> {
  const response = await supertest(app)
    .post(path)
    .send({ ...body, stream: true })
    .expect(200)
    .expect('content-type', 'text/event-stream; charset=utf-8')
    .expect('cache-control', 'no-cache, no-transform');
  const events = sseEvents(response.text);
  assert.equal(events.indexOf('[DONE]'), events.length - 1, 'one [DONE], last');
  return events.slice(0, -1);
}

/** What a stream adds up to, for each choice. */
function joined(chunks: readonly Chunk[], n: number) {
  return Array.from({ length: n }, (_, index) => {
    const mine = chunks.flatMap(({ choices }) => choices.filter((choice) => choice.index === index));
    return {
      text: mine.map(({ delta, text }) => delta?.content ?? text ?? '').join(''),
      reasons: mine.map((choice) => choice.finish_reason).filter((reason) => reason !== null),
      chatLogprobs: mine.flatMap(({ logprobs }) => logprobs?.content ?? []),
      offsets: mine.flatMap(({ logprobs }) => logprobs?.text_offset ?? []),
      tokens: mine.flatMap(({ logprobs }) => logprobs?.tokens ?? []),
    };
  });
}

suite('a stream joined equals the unstreamed answer (A1)', () => {
  for (const n of [1, 3]) {
    for (const extra of [{}, { logprobs: true, top_logprobs: 2 }, { stop: ['jumps'] }, { max_tokens: 5 }]) {
      test(`chat, n = ${n}, ${JSON.stringify(extra)}`, async () => {
        const { app } = fakeApp();
        const body = { ...CHAT, n, ...extra };
        const whole = await supertest(app).post('/v1/chat/completions').send(body).expect(200);
        const chunks = await stream(app, '/v1/chat/completions', body);
        for (const [index, choice] of joined(chunks, n).entries()) {
          const expected = whole.body.choices[index];
          assert.equal(expected.index, index);
          assert.equal(choice.text, expected.message.content);
          assert.deepEqual(choice.reasons, [expected.finish_reason]);
          assert.deepEqual(choice.chatLogprobs, expected.logprobs?.content ?? []);
        }
      });
      test(`text, n = ${n}, ${JSON.stringify(extra)}`, async () => {
        const { app } = fakeApp();
        const body = { ...TEXT, n, ...extra, ...('logprobs' in extra ? { logprobs: 2 } : {}) };
        Reflect.deleteProperty(body, 'top_logprobs');
        const whole = await supertest(app).post('/v1/completions').send(body).expect(200);
        const chunks = await stream(app, '/v1/completions', body);
        for (const [index, choice] of joined(chunks, n).entries()) {
          const expected = whole.body.choices[index];
          assert.equal(choice.text, expected.text);
          assert.deepEqual(choice.reasons, [expected.finish_reason]);
          assert.deepEqual(choice.offsets, expected.logprobs?.text_offset ?? []);
          assert.deepEqual(choice.tokens, expected.logprobs?.tokens ?? []);
        }
      });
    }
  }
});

test('every chunk of a chat stream has one id, and the first of each choice names the role', async () => {
  const { app } = fakeApp();
  const chunks = await stream(app, '/v1/chat/completions', { ...CHAT, n: 2 });
  assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
  for (const index of [0, 1]) {
    const roles = chunks
      .flatMap(({ choices }) => choices.filter((choice) => choice.index === index))
      .map(({ delta }) => delta?.role);
    assert.deepEqual(roles, ['assistant', ...Array(roles.length - 1).fill(undefined)]);
  }
});

test('an unstreamed answer always has complete usage and timings, zero included', async () => {
  const { app } = fakeApp();
  const first = await supertest(app).post('/v1/chat/completions').send(CHAT).expect(200);
  assert.deepEqual(first.body.usage, {
    prompt_tokens: 2,
    completion_tokens: 24,
    total_tokens: 26,
    prompt_tokens_details: { cached_tokens: 0, blended_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: 0 },
  });
  assert.deepEqual(first.body.timings, {
    queue_ms: 1,
    load_ms: 0,
    prefill_ms: 20,
    decode_ms: 100,
    ttft_ms: 21,
    cached_tokens: { device: 0, host: 0, disk: 0, remote: 0 },
    blended_tokens: { device: 0, host: 0, disk: 0, remote: 0 },
    computed_tokens: 2,
    tokens_per_second: 230,
  });
  const second = await supertest(app).post('/v1/chat/completions').send(CHAT).expect(200);
  assert.equal(second.body.usage.prompt_tokens_details.cached_tokens, 1);
  assert.equal(second.body.system_fingerprint, 'fp_fake');
});

test('a rate that nothing was decoded for is null, not zero', async () => {
  const { app } = fakeApp();
  const { body } = await supertest(app)
    .post('/v1/chat/completions')
    .send({ ...CHAT, max_tokens: 1 })
    .expect(200);
  assert.equal(body.timings.tokens_per_second, null);
});

test('with include_usage only the last chunk has usage, without choices, and the timings', async () => {
  const { app } = fakeApp();
  for (const [path, body] of [
    ['/v1/chat/completions', CHAT],
    ['/v1/completions', TEXT],
  ] as const) {
    const chunks = await stream(app, path, { ...body, stream_options: { include_usage: true } });
    const last = chunks.at(-1)!;
    assert.deepEqual(last.choices, []);
    assert.deepEqual(Object.keys(last.usage!), [
      'prompt_tokens',
      'completion_tokens',
      'total_tokens',
      'prompt_tokens_details',
      'completion_tokens_details',
    ]);
    assert.ok(last.timings);
    for (const chunk of chunks.slice(0, -1)) {
      assert.equal(chunk.usage, null);
      assert.equal(chunk.timings, undefined);
      assert.equal(chunk.choices.length, 1);
    }
  }
});

test('without include_usage no chunk has usage, and the last finish has the timings', async () => {
  const { app } = fakeApp();
  const chunks = await stream(app, '/v1/chat/completions', { ...CHAT, n: 2 });
  assert.ok(chunks.every((chunk) => !('usage' in chunk)));
  assert.deepEqual(chunks.map((chunk) => chunk.timings !== undefined).lastIndexOf(true), chunks.length - 1);
  assert.equal(chunks.filter((chunk) => chunk.timings !== undefined).length, 1);
  assert.equal(chunks.at(-1)!.choices[0]!.finish_reason, 'stop');
});

test('text offsets count code points, also over tokens that end within a character', async () => {
  const fox = [...Buffer.from('🦊')];
  async function* reply(): AsyncGenerator<CompletionEvent> {
    const tokens = [
      tokenOf('a', [97]),
      tokenOf('\ufffd', fox.slice(0, 2)),
      tokenOf('\ufffd', fox.slice(2)),
      tokenOf('b', [98]),
    ];
    yield { type: 'prompt', usage: USAGE };
    yield { type: 'delta', index: 0, text: 'a', logprobs: tokens.slice(0, 1) };
    yield { type: 'delta', index: 0, text: '🦊b', logprobs: tokens.slice(1) };
    yield { type: 'finish', index: 0, reason: 'length' };
    yield { type: 'end', usage: USAGE, timings: TIMINGS };
  }
  const { app } = fakeApp({ reply });
  const { body } = await supertest(app)
    .post('/v1/completions')
    .send({ ...TEXT, logprobs: 0 })
    .expect(200);
  assert.deepEqual(body.choices[0].logprobs, {
    tokens: ['a', '\ufffd', '\ufffd', 'b'],
    token_logprobs: [-1, -1, -1, -1],
    top_logprobs: [{ a: -1 }, { '\ufffd': -1 }, { '\ufffd': -1 }, { b: -1 }],
    text_offset: [0, 1, 2, 2],
  });
  const chunks = await stream(app, '/v1/completions', { ...TEXT, logprobs: 0 });
  assert.deepEqual(joined(chunks, 1)[0]!.offsets, [0, 1, 2, 2]);
});

for (const [code, status, retryAfterS] of [
  ['queue_full', 429, 7],
  ['engine_failed', 503, undefined],
  ['context_length_exceeded', 400, undefined],
] as const) {
  test(`${code} before the first event is an answer with status ${status}, streamed or not`, async () => {
    const retry = retryAfterS === undefined ? {} : { retryAfterS };
    const reply = scripted([], new RadixkvError(code, 'No.', { param: 'messages', ...retry }));
    const { app, statistics } = fakeApp({ reply });
    for (const streamed of [false, true]) {
      const response = await supertest(app)
        .post('/v1/chat/completions')
        .send({ ...CHAT, stream: streamed });
      assert.equal(response.status, status);
      assert.deepEqual([response.body.error.code, response.body.error.param], [code, 'messages']);
      const retryAfter = status === 400 ? undefined : String(retryAfterS ?? 1);
      assert.equal(response.headers['retry-after'], retryAfter);
      assert.equal(response.headers['x-should-retry'], status === 400 ? 'false' : undefined);
    }
    assert.equal(statistics.counts[status < 500 ? 'refused' : 'failed'], 2);
  });
}

test('an error after the stream began is its last event, and no [DONE] follows', async () => {
  const reply = scripted(
    [
      { type: 'prompt', usage: USAGE },
      { type: 'delta', index: 0, text: 'Hel' },
    ],
    new RadixkvError('engine_failed', 'The engine stopped.'),
  );
  const { app, statistics } = fakeApp({ reply });
  const { text } = await supertest(app)
    .post('/v1/chat/completions')
    .send({ ...CHAT, stream: true })
    .expect(200);
  const events = sseEvents(text);
  assert.deepEqual(events.at(-1), {
    error: { message: 'The engine stopped.', type: 'server_error', code: 'engine_failed', param: null },
  });
  assert.equal(events.length, 3);
  assert.equal(statistics.counts.failed, 1);
});

test('a defect is a 500 that tells nothing of its cause and is not worth a retry', async () => {
  const reply = scripted([], new TypeError('secret of the inside'));
  const { app } = fakeApp({ reply });
  const { body, headers } = await supertest(app).post('/v1/chat/completions').send(CHAT).expect(500);
  assert.equal(body.error.code, 'internal');
  assert.doesNotMatch(JSON.stringify(body), /secret/);
  assert.equal(headers['x-should-retry'], 'false');
});

test('a service that ends without its end event is a defect, not an answer', async () => {
  const reply = scripted([
    { type: 'prompt', usage: USAGE },
    { type: 'delta', index: 0, text: 'Hel' },
    { type: 'finish', index: 0, reason: 'stop' },
  ]);
  const { app } = fakeApp({ reply });
  await supertest(app).post('/v1/chat/completions').send(CHAT).expect(500);
  const { text } = await supertest(app)
    .post('/v1/chat/completions')
    .send({ ...CHAT, stream: true });
  assert.equal(sseEvents(text).at(-1).error.code, 'internal');
});
