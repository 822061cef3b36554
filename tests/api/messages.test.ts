/** `POST /v1/messages`: what it takes and refuses, and the shapes of its answers, streams and errors. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import supertest from 'supertest';
import { type RunningServer, startServer } from '../../src/api/server.js';
import { ERROR_CODES, ERRORS, type ErrorCode, RadixkvError } from '../../src/errors.js';
import { DEFAULT_CACHE, GREEDY, NO_TOKENS } from '../../src/serving/completion.js';
import { fakeApp } from '../support/fake-app.js';

const PATH = '/v1/messages';
const BODY = {
  model: 'fake/model-1',
  max_tokens: 6,
  messages: [{ role: 'user' as const, content: 'Hello there' }],
};
const PART = { type: 'text' as const, text: 'x' };

const user = (content: unknown) => ({ messages: [{ role: 'user', content }] });
const part = (fields: object) => user([{ ...PART, ...fields }]);

type Row = [body: object, code: ErrorCode, param: string];

const REFUSALS: Row[] = [
  [{ model: undefined }, 'invalid_value', 'model'],
  [{ model: 'other' }, 'model_not_found', 'model'],
  [{ max_tokens: undefined }, 'invalid_value', 'max_tokens'],
  [{ max_tokens: null }, 'invalid_value', 'max_tokens'],
  [{ max_tokens: 0 }, 'invalid_value', 'max_tokens'],
  [{ messages: undefined }, 'invalid_value', 'messages'],
  [{ messages: [] }, 'invalid_value', 'messages'],
  [{ messages: Array.from({ length: 11 }, () => BODY.messages[0]) }, 'invalid_value', 'messages'],
  [{ messages: [{ role: 'system', content: 'x' }] }, 'invalid_value', 'messages[0].role'],
  [{ messages: [{ role: 'user', content: 'x', name: 'a' }] }, 'unsupported_field', 'messages[0].name'],
  [
    { messages: [...BODY.messages, { role: 'assistant', content: 'He' }] },
    'unsupported_field',
    'messages[1].role',
  ],
  [user(null), 'invalid_value', 'messages[0].content'],
  [user(['x']), 'invalid_value', 'messages[0].content[0]'],
  [user('a\ud800b'), 'invalid_value', 'messages[0].content'],
  [user(Array.from({ length: 5 }, () => PART)), 'invalid_value', 'messages[0].content'],
  [user([{ type: 'image', source: {} }]), 'unsupported_field', 'messages[0].content[0].type'],
  [user([{ type: 'document', source: {} }]), 'unsupported_field', 'messages[0].content[0].type'],
  [user([{ type: 'tool_result' }]), 'unsupported_field', 'messages[0].content[0].type'],
  [part({ citations: [{}] }), 'unsupported_field', 'messages[0].content[0].citations'],
  [part({ cache_control: 'ephemeral' }), 'invalid_value', 'messages[0].content[0].cache_control'],
  [part({ cache_control: {} }), 'invalid_value', 'messages[0].content[0].cache_control.type'],
  [
    part({ cache_control: { type: 'ephemeral', ttl: '2h' } }),
    'invalid_value',
    'messages[0].content[0].cache_control.ttl',
  ],
  [
    part({ cache_control: { type: 'ephemeral', scope: 'global' } }),
    'unsupported_field',
    'messages[0].content[0].cache_control.scope',
  ],
  [{ cache_control: { type: 'persistent' } }, 'invalid_value', 'cache_control.type'],
  [{ system: 5 }, 'invalid_value', 'system'],
  [{ system: [{ type: 'image' }] }, 'unsupported_field', 'system[0].type'],
  [{ stop_sequences: 'x' }, 'invalid_value', 'stop_sequences'],
  [{ stop_sequences: [''] }, 'invalid_value', 'stop_sequences[0]'],
  [{ stop_sequences: Array(17).fill('x') }, 'invalid_value', 'stop_sequences'],
  [{ temperature: -0.1 }, 'invalid_value', 'temperature'],
  [{ top_p: 1.1 }, 'invalid_value', 'top_p'],
  [{ top_k: -1 }, 'invalid_value', 'top_k'],
  [{ stream: 'yes' }, 'invalid_value', 'stream'],
  [{ metadata: { user_id: 5 } }, 'invalid_value', 'metadata.user_id'],
  [{ metadata: { other: 'x' } }, 'unsupported_field', 'metadata.other'],
  [{ tools: [{ name: 'x' }] }, 'unsupported_field', 'tools'],
  [{ tool_choice: { type: 'any' } }, 'unsupported_field', 'tool_choice'],
  [{ thinking: { type: 'enabled', budget_tokens: 1024 } }, 'unsupported_field', 'thinking'],
  [{ service_tier: 'priority' }, 'unsupported_field', 'service_tier'],
  [{ speed: 'fast' }, 'unsupported_field', 'speed'],
  [{ container: 'x' }, 'unsupported_field', 'container'],
  [{ mcp_servers: [{}] }, 'unsupported_field', 'mcp_servers'],
  [{ output_config: { effort: 'low' } }, 'unsupported_field', 'output_config'],
  [{ documents: [] }, 'unsupported_field', 'documents'],
  [{ n: 1 }, 'unsupported_field', 'n'],
  [{ wibble: 1 }, 'unsupported_field', 'wibble'],
];

suite('bad fields', () => {
  const { app, service } = fakeApp({ limits: { messagesMax: 10, partsMax: 4 } });
  for (const [change, code, param] of REFUSALS) {
    test(`${JSON.stringify(change).slice(0, 80)} is refused as ${code} of ${param}`, async () => {
      const { status, body } = await supertest(app)
        .post(PATH)
        .send({ ...BODY, ...change });
      const type = code === 'model_not_found' ? 'not_found_error' : 'invalid_request_error';
      assert.equal(status, ERRORS[code].status);
      assert.deepEqual(
        [body.type, body.error.type, body.error.details],
        ['error', type, { error_code: code, param }],
      );
      assert.match(body.error.message, /\w{3}/);
      assert.equal(service.requests.length, 0);
    });
  }
});

test('a request reaches the service as the same chat that /v1/chat/completions makes of it', async () => {
  const { app, service } = fakeApp();
  const mark = { cache_control: { type: 'ephemeral', ttl: '1h' } };
  await supertest(app)
    .post(PATH)
    .set('anthropic-version', '2023-06-01')
    .send({
      ...BODY,
      system: [
        { type: 'text', text: 'Be brief.', ...mark },
        { type: 'text', text: 'Be kind.', cache_control: { type: 'ephemeral' } },
      ],
      messages: [
        { role: 'user', content: [{ ...PART, ...mark }, PART] },
        { role: 'assistant', content: [{ ...PART, citations: null }] },
        { role: 'user', content: 'y' },
      ],
      stop_sequences: ['END'],
      temperature: 0.5,
      top_p: 0.9,
      top_k: 40,
      metadata: { user_id: 'someone' },
      cache_control: { type: 'ephemeral', ttl: '5m' },
    })
    .expect(200);
  await supertest(app)
    .post('/v1/chat/completions')
    .send({
      model: BODY.model,
      messages: [
        { role: 'system', content: 'Be brief.\nBe kind.' },
        { role: 'user', content: [{ ...PART, ...mark }, PART] },
        { role: 'assistant', content: 'x' },
        { role: 'user', content: 'y' },
      ],
      max_tokens: 6,
      stop: 'END',
      temperature: 0.5,
      top_p: 0.9,
      top_k: 40,
    })
    .expect(200);
  const [message, chat] = service.asked;
  assert.deepEqual(message, chat);
  assert.match(service.requests[0]!.id, /^msg_[0-9a-f]{32}$/);
});

test('null and absent optional fields, and those that ask for nothing, mean the same defaults', async () => {
  const { app, service } = fakeApp();
  const optional =
    'system stop_sequences temperature top_p top_k stream metadata cache_control tools thinking';
  const nulls = Object.fromEntries(optional.split(' ').map((field) => [field, null]));
  const nothing = {
    tools: [],
    tool_choice: { type: 'auto' },
    thinking: { type: 'disabled' },
    service_tier: 'auto',
    metadata: {},
  };
  for (const fields of [{}, nulls, nothing]) {
    await supertest(app)
      .post(PATH)
      .send({ ...BODY, ...fields })
      .expect(200);
  }
  const [absent, ...others] = service.asked;
  for (const each of others) assert.deepEqual(each, absent);
  assert.deepEqual(absent!.sampling, { ...GREEDY, temperature: 1 });
  assert.deepEqual(absent!.cache, DEFAULT_CACHE);
  assert.deepEqual(absent!.stop, []);
});

test('the namespace of an API key is the same in x-api-key and as a bearer token, and x-api-key comes first', async () => {
  const { app, service } = fakeApp();
  const headers: Record<string, string>[] = [
    { 'x-api-key': 'key-one' },
    { authorization: 'Bearer key-one' },
    { 'x-api-key': 'key-one', authorization: 'Bearer key-two' },
    { 'x-api-key': 'key-two' },
    {},
  ];
  for (const each of headers) await supertest(app).post(PATH).set(each).send(BODY).expect(200);
  await supertest(app)
    .post('/v1/chat/completions')
    .set('authorization', 'Bearer key-one')
    .send({ model: BODY.model, messages: BODY.messages })
    .expect(200);
  const [one, bearer, both, two, none, chat] = service.requests.map(({ namespace }) => namespace);
  assert.match(one!, /^[0-9a-f]{64}$/);
  assert.deepEqual([bearer, both, chat], [one, one, one]);
  assert.notEqual(two, one);
  assert.equal(none, '');
});

test('an answer has the shape of a message, and its usage adds up to the prompt', async () => {
  const { app } = fakeApp();
  const body = { ...BODY, ...user('one two three four') };
  const first = await supertest(app).post(PATH).send(body).expect(200);
  const { id, ...rest } = first.body;
  assert.match(id, /^msg_/);
  assert.equal(first.headers['request-id'], first.headers['x-request-id']);
  assert.deepEqual(rest, {
    type: 'message',
    role: 'assistant',
    model: 'fake/model-1',
    content: [{ type: 'text', text: rest.content[0].text }],
    stop_reason: 'max_tokens',
    stop_sequence: null,
    usage: {
      input_tokens: 4,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: 0,
      output_tokens: 6,
    },
  });
  const second = await supertest(app).post(PATH).send(body).expect(200);
  assert.deepEqual(second.body.usage, {
    ...rest.usage,
    input_tokens: 1,
    cache_read_input_tokens: 3,
  });
});

test('KV that is not exact was read from the cache too', async () => {
  const usage = {
    promptTokens: 9,
    cachedTokens: { device: 1, host: 2, disk: 0, remote: 0 },
    blendedTokens: { ...NO_TOKENS, disk: 4 },
    computedTokens: 2,
  };
  const timings = { queueMs: 1, loadMs: 0, prefillMs: 1, blend: undefined, decodeMs: 1, ttftMs: 1 };
  const { app } = fakeApp({
    reply: async function* () {
      yield { type: 'prompt', usage };
      yield { type: 'finish', index: 0, reason: 'stop' };
      yield { type: 'end', usage: { ...usage, completionTokens: 1 }, timings };
    },
  });
  const { body } = await supertest(app).post(PATH).send(BODY).expect(200);
  assert.deepEqual([body.usage.input_tokens, body.usage.cache_read_input_tokens], [2, 7]);
  assert.deepEqual(body.content, [{ type: 'text', text: '' }]);
  assert.equal(body.stop_reason, 'end_turn');
});

test('a stream has the events of a message in their order, each under its name', async () => {
  const { app } = fakeApp();
  const whole = (await supertest(app).post(PATH).send(BODY).expect(200)).body;
  const { text } = await supertest(app)
    .post(PATH)
    .send({ ...BODY, stream: true })
    .expect(200)
    .expect('content-type', 'text/event-stream; charset=utf-8');
  const events = text
    .trimEnd()
    .split('\n\n')
    .map((event) => /^event: (.*)\ndata: (.*)$/.exec(event)!)
    .map(([, name, data]) => ({ name, data: JSON.parse(data!) }));
  for (const { name, data } of events) assert.equal(data.type, name);
  const deltas = events.filter(({ name }) => name === 'content_block_delta');
  assert.deepEqual(
    events.map(({ name }) => name),
    [
      'message_start',
      'content_block_start',
      ...deltas.map(({ name }) => name),
      'content_block_stop',
      'message_delta',
      'message_stop',
    ],
  );
  assert.equal(deltas.map(({ data }) => data.delta.text).join(''), whole.content[0].text);
  const { message } = events[0]!.data;
  assert.deepEqual(
    { ...message, id: whole.id },
    {
      ...whole,
      content: [],
      stop_reason: null,
      usage: {
        input_tokens: 1,
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: 1,
        output_tokens: 0,
      },
    },
  );
  const { delta, usage } = events.at(-2)!.data;
  assert.deepEqual(delta, { stop_reason: 'max_tokens', stop_sequence: null });
  assert.deepEqual(usage, { ...message.usage, output_tokens: 6 });
});

test('an answer tells which of its stop sequences ended it, streamed or not', async () => {
  const { app } = fakeApp();
  const body = { ...BODY, max_tokens: 24, stop_sequences: ['nowhere', 'jumps'] };
  const whole = await supertest(app).post(PATH).send(body).expect(200);
  const stop = { stop_reason: 'stop_sequence', stop_sequence: 'jumps' };
  assert.deepEqual({ stop_reason: whole.body.stop_reason, stop_sequence: whole.body.stop_sequence }, stop);
  const { text } = await supertest(app)
    .post(PATH)
    .send({ ...body, stream: true });
  assert.ok(text.includes(`"delta":${JSON.stringify(stop)}`));
});

test('every error has the status of its code and a type of Anthropic’s', async () => {
  const expected: Partial<Record<number, string>> = {
    401: 'authentication_error',
    403: 'permission_error',
    404: 'not_found_error',
    413: 'request_too_large',
    429: 'rate_limit_error',
    500: 'api_error',
    502: 'api_error',
    503: 'overloaded_error',
    504: 'timeout_error',
  };
  for (const code of ERROR_CODES) {
    const { app } = fakeApp({
      reply: () => {
        throw new RadixkvError(code, 'No.', { param: 'messages', retryAfterS: 7 });
      },
    });
    const { status, body, headers } = await supertest(app).post(PATH).send(BODY);
    assert.equal(status, ERRORS[code].status);
    assert.deepEqual(body, {
      type: 'error',
      error: {
        type: expected[status] ?? 'invalid_request_error',
        message: 'No.',
        details: { error_code: code, param: 'messages' },
      },
      request_id: headers['request-id'],
    });
    assert.equal(headers['x-should-retry'], ERRORS[code].retryable ? undefined : 'false');
    assert.equal(headers['retry-after'], status === 429 || status === 503 ? '7' : undefined);
  }
});

test('bodies that are no JSON, other methods and paths below have errors of the same shape', async () => {
  const { app } = fakeApp();
  const cases = [
    [supertest(app).post(PATH).type('application/json').send('{'), 400, 'invalid_json'],
    [supertest(app).post(PATH).type('text/plain').send('{}'), 415, 'unsupported_media_type'],
    [supertest(app).get(PATH), 405, 'method_not_allowed'],
    [supertest(app).post(`${PATH}/batches`).send({}), 404, 'not_found'],
  ] as const;
  for (const [request, status, code] of cases) {
    const response = await request;
    const { type, error } = response.body;
    assert.deepEqual(
      [response.status, type, error.details],
      [status, 'error', { error_code: code, param: null }],
    );
  }
  const elsewhere = await supertest(app).get('/v1/messagesx').expect(404);
  assert.equal(elsewhere.body.error.code, 'not_found');
});

suite('the official client', () => {
  const parts = fakeApp();
  let server: RunningServer;
  before(async () => {
    server = await startServer({ app: parts.app, host: '127.0.0.1', port: 0, shutdownTimeoutMs: 1000 });
  });
  after(() => server.close());
  const client = (maxRetries = 0) =>
    new Anthropic({ baseURL: server.url, apiKey: 'key', authToken: null, maxRetries });

  test('sends a conversation with marks, and its own answer back', async () => {
    const cache_control = { type: 'ephemeral' as const };
    const system = [{ ...PART, cache_control }];
    const { data: first, request_id } = await client()
      .messages.create({ ...BODY, system })
      .withResponse();
    assert.match(request_id!, /^req_/);
    const messages = [
      ...BODY.messages,
      { role: first.role, content: first.content },
      { role: 'user' as const, content: [{ ...PART, cache_control }] },
    ];
    await client().messages.create({ ...BODY, system, messages });
    await client().beta.messages.create({ ...BODY, system, messages: BODY.messages });
  });

  test('assembles the same message from a stream, helper or not', async () => {
    const body = { ...BODY, max_tokens: 24, stop_sequences: ['jumps'] };
    const whole = await client().messages.create(body);
    const streamed = await client().messages.stream(body).finalMessage();
    for (const field of ['content', 'stop_reason', 'stop_sequence', 'model', 'role', 'type'] as const) {
      assert.deepEqual(streamed[field], whole[field], field);
    }
    assert.equal(streamed.stop_sequence, 'jumps');
    assert.equal(streamed.usage.output_tokens, whole.usage.output_tokens);
    let text = '';
    for await (const event of await client().messages.create({ ...body, stream: true })) {
      if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') text += event.delta.text;
    }
    assert.deepEqual(whole.content, [{ type: 'text', text }]);
  });

  test('turns overload into its own error, and tries again until it is answered', async () => {
    let refusals = 1;
    const reply: typeof parts.service.reply = (request) => {
      if (refusals-- > 0) throw new RadixkvError('queue_full', 'Later.', { retryAfterS: 0 });
      return parts.service.answer(request);
    };
    await parts.service.whileReplying(reply, async () => {
      await assert.rejects(client().messages.create(BODY), (error) => {
        return error instanceof Anthropic.RateLimitError && error.type === 'rate_limit_error';
      });
      refusals = 1;
      await client(1).messages.create(BODY);
    });
  });

  test('throws when a stream breaks', async () => {
    await parts.service.whileReplying(
      (request) => parts.service.breakInText(request),
      async () => {
        await assert.rejects(client().messages.stream(BODY).finalMessage(), (error) => {
          assert.ok(error instanceof Anthropic.APIError);
          assert.equal(error.errorCode, 'engine_failed');
          return error.type === 'overloaded_error';
        });
      },
    );
    assert.equal(parts.service.activeRequests, 0);
  });
});
