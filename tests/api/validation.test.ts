import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import supertest from 'supertest';
import { namespaceOf } from '../../src/api/namespace.js';
import { DEFAULT_CACHE } from '../../src/serving/completion.js';
import { fakeApp } from '../support/fake-app.js';

const CHAT = { model: 'fake/model-1', messages: [{ role: 'user', content: 'Hello there' }] };
const TEXT = { model: 'fake/model-1', prompt: 'Hello there' };

type Row = [body: object, code: string, param: string | null];

const CHAT_REFUSALS: Row[] = [
  [{ cache_prompt: false, cache: { recompute_ratio: 0.1 } }, 'invalid_value', 'cache.recompute_ratio'],
  [{ cache_prompt: false, cache: { selector: 'heads' } }, 'invalid_value', 'cache.selector'],
  [{ model: undefined }, 'invalid_value', 'model'],
  [{ model: null }, 'invalid_value', 'model'],
  [{ model: 'other' }, 'model_not_found', 'model'],
  [{ messages: undefined }, 'invalid_value', 'messages'],
  [{ messages: [] }, 'invalid_value', 'messages'],
  [{ messages: 'Hello' }, 'invalid_value', 'messages'],
  [
    { messages: Array.from({ length: 11 }, () => ({ role: 'user', content: 'x' })) },
    'invalid_value',
    'messages',
  ],
  [{ messages: [{ role: 'wizard', content: 'x' }] }, 'invalid_value', 'messages[0].role'],
  [{ messages: [{ role: 'user' }] }, 'invalid_value', 'messages[0].content'],
  [{ messages: [{ role: 'assistant', content: null }] }, 'invalid_value', 'messages[0].content'],
  [{ messages: [{ role: 'user', content: 'a\ud800b' }] }, 'invalid_value', 'messages[0].content'],
  [{ messages: [{ role: 'user', content: 'x', mood: 1 }] }, 'unsupported_field', 'messages[0].mood'],
  [
    { messages: [{ role: 'assistant', content: 'x', tool_calls: [{}] }] },
    'unsupported_field',
    'messages[0].tool_calls',
  ],
  [
    { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] },
    'unsupported_field',
    'messages[0].content[0].type',
  ],
  [{ max_tokens: -1 }, 'invalid_value', 'max_tokens'],
  [{ max_tokens: 0 }, 'invalid_value', 'max_tokens'],
  [{ max_tokens: 1.5 }, 'invalid_value', 'max_tokens'],
  [{ max_tokens: 3, max_completion_tokens: 4 }, 'invalid_value', 'max_completion_tokens'],
  [{ temperature: 2.1 }, 'invalid_value', 'temperature'],
  [{ temperature: '1' }, 'invalid_value', 'temperature'],
  [{ top_p: 1.1 }, 'invalid_value', 'top_p'],
  [{ top_k: -1 }, 'invalid_value', 'top_k'],
  [{ min_p: -0.1 }, 'invalid_value', 'min_p'],
  [{ seed: 0.5 }, 'invalid_value', 'seed'],
  [{ n: 17 }, 'invalid_value', 'n'],
  [{ n: 0 }, 'invalid_value', 'n'],
  [{ priority: 0.5 }, 'invalid_value', 'priority'],
  [{ priority: -101 }, 'invalid_value', 'priority'],
  [{ deadline_ms: 0 }, 'invalid_value', 'deadline_ms'],
  [{ deadline_ms: 3_600_001 }, 'invalid_value', 'deadline_ms'],
  [{ stop: '' }, 'invalid_value', 'stop'],
  [{ stop: ['a', ''] }, 'invalid_value', 'stop[1]'],
  [{ stop: Array(17).fill('x') }, 'invalid_value', 'stop'],
  [{ stop: [1] }, 'invalid_value', 'stop[0]'],
  [{ stop: 5 }, 'invalid_value', 'stop'],
  [{ stop: 'x'.repeat(1025) }, 'invalid_value', 'stop'],
  [{ presence_penalty: 3 }, 'invalid_value', 'presence_penalty'],
  [{ frequency_penalty: -3 }, 'invalid_value', 'frequency_penalty'],
  [{ logit_bias: { 5: 101 } }, 'invalid_value', 'logit_bias.5'],
  [{ logit_bias: { five: 1 } }, 'invalid_value', 'logit_bias'],
  [{ logit_bias: [1] }, 'invalid_value', 'logit_bias'],
  [{ logprobs: 1 }, 'invalid_value', 'logprobs'],
  [{ top_logprobs: 2 }, 'invalid_value', 'top_logprobs'],
  [{ logprobs: true, top_logprobs: 21 }, 'invalid_value', 'top_logprobs'],
  [{ stream_options: { include_usage: true } }, 'invalid_value', 'stream_options'],
  [{ stream: true, stream_options: { other: 1 } }, 'unsupported_field', 'stream_options.other'],
  [{ tools: [{ type: 'function' }] }, 'unsupported_field', 'tools'],
  [{ functions: [{}] }, 'unsupported_field', 'functions'],
  [{ response_format: { type: 'json_object' } }, 'unsupported_field', 'response_format'],
  [{ modalities: ['text', 'audio'] }, 'unsupported_field', 'modalities'],
  [{ audio: {} }, 'unsupported_field', 'audio'],
  [{ store: true }, 'unsupported_field', 'store'],
  [{ metadata: { a: 'b' } }, 'unsupported_field', 'metadata'],
  [{ wibble: 1 }, 'unsupported_field', 'wibble'],
  [{ documents: 'text' }, 'invalid_value', 'documents'],
  [{ documents: Array.from({ length: 4 }, () => ({ text: 'x' })) }, 'invalid_value', 'documents'],
  [{ documents: ['text'] }, 'invalid_value', 'documents[0]'],
  [{ documents: [{}] }, 'invalid_value', 'documents[0].text'],
  [{ documents: [{ title: 'x' }] }, 'invalid_value', 'documents[0].text'],
  [{ documents: [{ id: 'a', title: 'x' }] }, 'invalid_value', 'documents[0].title'],
  [{ documents: [{ text: '' }] }, 'invalid_value', 'documents[0].text'],
  [{ documents: [{ text: 'x' }, { text: 'x'.repeat(21) }] }, 'invalid_value', 'documents[1].text'],
  [{ documents: [{ text: 'a\ud800b' }] }, 'invalid_value', 'documents[0].text'],
  [{ documents: [{ text: 'x', title: 'x'.repeat(11) }] }, 'invalid_value', 'documents[0].title'],
  [{ documents: [{ text: 'x', id: '' }] }, 'invalid_value', 'documents[0].id'],
  [{ documents: [{ text: 'x', id: 'a b' }] }, 'invalid_value', 'documents[0].id'],
  [{ documents: [{ text: 'x', id: 'a/b' }] }, 'invalid_value', 'documents[0].id'],
  [{ documents: [{ text: 'x', id: 'a\n' }] }, 'invalid_value', 'documents[0].id'],
  [{ documents: [{ text: 'x', id: 'x'.repeat(257) }] }, 'invalid_value', 'documents[0].id'],
  [{ documents: [{ text: 'x', id: 7 }] }, 'invalid_value', 'documents[0].id'],
  [{ documents: [{ text: 'x', url: 'y' }] }, 'unsupported_field', 'documents[0].url'],
  [{ documents: [{ text: 'x', id: 'a' }, { text: 'y' }, { id: 'a' }] }, 'invalid_value', 'documents[2].id'],
  [{ cache: 'blend' }, 'invalid_value', 'cache'],
  [{ cache: { mode: 'fast' } }, 'invalid_value', 'cache.mode'],
  [{ cache: { mode: 'blend' } }, 'invalid_value', 'cache.mode'],
  [{ cache: { mode: 'blend' }, documents: [] }, 'invalid_value', 'cache.mode'],
  [{ cache: { recompute_ratio: 1.01 } }, 'invalid_value', 'cache.recompute_ratio'],
  [{ cache: { recompute_ratio: -0.01 } }, 'invalid_value', 'cache.recompute_ratio'],
  [{ cache: { recompute_ratio: '0.1' } }, 'invalid_value', 'cache.recompute_ratio'],
  [{ cache: { selector: 'best' } }, 'invalid_value', 'cache.selector'],
  [{ cache: { selector: 'constructor' } }, 'invalid_value', 'cache.selector'],
  [{ cache: { mode: 'exact', recompute_ratio: 0.1 } }, 'invalid_value', 'cache.recompute_ratio'],
  [{ cache: { mode: 'off', recompute_ratio: 0 } }, 'invalid_value', 'cache.recompute_ratio'],
  [{ cache: { mode: 'exact', selector: 'heads' } }, 'invalid_value', 'cache.selector'],
  [{ cache: { explain: 1 } }, 'invalid_value', 'cache.explain'],
  [{ cache: { ttl: 1 } }, 'unsupported_field', 'cache.ttl'],
  [
    { messages: [{ role: 'user', content: [{ type: 'text', text: 'x', cache_control: true }] }] },
    'invalid_value',
    'messages[0].content[0].cache_control',
  ],
  [
    {
      messages: [
        {
          role: 'user',
          content: [{ type: 'text', text: 'x', cache_control: { type: 'ephemeral', ttl: '2h' } }],
        },
      ],
    },
    'invalid_value',
    'messages[0].content[0].cache_control.ttl',
  ],
];

/** Of both endpoints. */
const CACHE_REFUSALS: Row[] = [
  [{ cache_salt: '' }, 'invalid_value', 'cache_salt'],
  [{ cache_salt: 5 }, 'invalid_value', 'cache_salt'],
  [{ cache_salt: 'a\ud800b' }, 'invalid_value', 'cache_salt'],
  [{ cache_salt: 'x'.repeat(13) }, 'invalid_value', 'cache_salt'],
  [{ cache_prompt: 'no' }, 'invalid_value', 'cache_prompt'],
  [{ cache_prompt: true, cache: { mode: 'off' } }, 'invalid_value', 'cache_prompt'],
  [{ cache_prompt: false, cache: { mode: 'auto' } }, 'invalid_value', 'cache_prompt'],
  [{ cache_prompt: false, cache: { mode: 'exact' } }, 'invalid_value', 'cache_prompt'],
  [{ prompt_cache_key: 5 }, 'invalid_value', 'prompt_cache_key'],
  [{ prompt_cache_key: 'x'.repeat(65) }, 'invalid_value', 'prompt_cache_key'],
  [{ prompt_cache_retention: '1h' }, 'invalid_value', 'prompt_cache_retention'],
];

const TEXT_REFUSALS: Row[] = [
  ...CACHE_REFUSALS,
  [{ prompt: undefined }, 'invalid_value', 'prompt'],
  [{ prompt: null }, 'invalid_value', 'prompt'],
  [{ prompt: '' }, 'invalid_value', 'prompt'],
  [{ prompt: [] }, 'invalid_value', 'prompt'],
  [{ prompt: [[]] }, 'invalid_value', 'prompt'],
  [{ prompt: [-1] }, 'invalid_value', 'prompt'],
  [{ prompt: [1, 'x'] }, 'invalid_value', 'prompt'],
  [{ prompt: 'a\udc00' }, 'invalid_value', 'prompt'],
  [{ prompt: ['a', 'b'] }, 'unsupported_field', 'prompt'],
  [{ prompt: [[1], [2]] }, 'unsupported_field', 'prompt'],
  [{ logprobs: 6 }, 'invalid_value', 'logprobs'],
  [{ logprobs: true }, 'invalid_value', 'logprobs'],
  [{ echo: true }, 'unsupported_field', 'echo'],
  [{ best_of: 2 }, 'unsupported_field', 'best_of'],
  [{ suffix: 'end' }, 'unsupported_field', 'suffix'],
  [{ messages: [] }, 'unsupported_field', 'messages'],
  [{ documents: [] }, 'unsupported_field', 'documents'],
  [{ cache: { mode: 'blend' } }, 'invalid_value', 'cache.mode'],
  [{ cache: { recompute_ratio: 0.1 } }, 'invalid_value', 'cache.recompute_ratio'],
  [{ cache: { selector: 'heads' } }, 'invalid_value', 'cache.selector'],
  [{ cache: { mode: 'exact', recompute_ratio: 0.1 } }, 'invalid_value', 'cache.recompute_ratio'],
];

function refuses(path: string, valid: object, rows: readonly Row[]) {
  const { app, service } = fakeApp({
    limits: {
      messagesMax: 10,
      documentsMax: 3,
      documentCharactersMax: 20,
      titleCharactersMax: 10,
      cacheSaltCharactersMax: 12,
    },
  });
  for (const [change, code, param] of rows) {
    test(`${path} refuses ${JSON.stringify(change).slice(0, 80)} as ${code} of ${param}`, async () => {
      const { status, body } = await supertest(app)
        .post(path)
        .send({ ...valid, ...change });
      assert.deepEqual(
        { status, code: body.error.code, param: body.error.param, type: body.error.type },
        { status: code === 'model_not_found' ? 404 : 400, code, param, type: 'invalid_request_error' },
      );
      assert.match(body.error.message, /\w{3}/);
      assert.equal(service.requests.length, 0);
    });
  }
}

suite('bad fields', () => {
  refuses('/v1/chat/completions', CHAT, [...CHAT_REFUSALS, ...CACHE_REFUSALS]);
  refuses('/v1/completions', TEXT, TEXT_REFUSALS);
});

test('a chat request reaches the service in its own words', async () => {
  const { app, service } = fakeApp();
  service.documents = { find: () => ({ title: undefined, text: 'the fourth' }) };
  await supertest(app)
    .post('/v1/chat/completions')
    .send({
      model: 'fake/model-1',
      messages: [
        { role: 'developer', content: 'Be brief.' },
        {
          role: 'user',
          name: 'ann',
          content: [
            { type: 'text', text: 'one' },
            { type: 'text', text: 'two' },
          ],
        },
      ],
      max_tokens: 7,
      max_completion_tokens: 7,
      temperature: 0.5,
      top_p: 0.9,
      top_k: 40,
      min_p: 0.05,
      seed: 3,
      stop: 'x',
      n: 2,
      logprobs: true,
      top_logprobs: 4,
      presence_penalty: 1,
      frequency_penalty: -1,
      logit_bias: { 12: -100 },
      priority: -2,
      deadline_ms: 500,
      user: 'someone',
      documents: [
        { id: 'Doc_1.a:b-c', title: 'One', text: 'the first' },
        { title: '', text: 'the second' },
        { id: null, title: null, text: 'the third' },
        { id: 'stored' },
      ],
      cache: { mode: 'blend', recompute_ratio: 0.25, selector: 'heads', explain: true },
    })
    .expect(200);
  const { id, signal, chargeTokens: _, ...rest } = service.requests[0]!;
  assert.match(id, /^chatcmpl-/);
  assert.equal(signal.aborted, false);
  assert.deepEqual(rest, {
    prompt: {
      kind: 'chat',
      messages: [
        { role: 'developer', content: 'Be brief.' },
        { role: 'user', name: 'ann', content: 'one\ntwo' },
      ],
      documents: [
        { id: 'Doc_1.a:b-c', title: 'One', text: 'the first' },
        { id: undefined, title: undefined, text: 'the second' },
        { id: undefined, title: undefined, text: 'the third' },
        { id: 'stored' },
      ],
    },
    cache: { mode: 'blend', recomputeRatio: 0.25, selector: 'heads', explain: true },
    promptField: 'messages',
    tenant: '',
    namespace: '',
    n: 2,
    maxTokens: 7,
    stop: ['x'],
    priority: -2,
    deadlineMs: 500,
    sampling: {
      temperature: 0.5,
      topP: 0.9,
      topK: 40,
      minP: 0.05,
      seed: 3,
      presencePenalty: 1,
      frequencyPenalty: -1,
      logitBias: new Map([[12, -100]]),
      topLogprobs: 4,
    },
  });
});

const OPTIONAL =
  `max_tokens max_completion_tokens temperature top_p top_k min_p seed stop n logprobs top_logprobs
presence_penalty frequency_penalty logit_bias stream stream_options user tools response_format store metadata audio documents cache
cache_salt cache_prompt prompt_cache_key prompt_cache_retention priority deadline_ms`.replaceAll('\n', ' ');

test('null and absent optional fields mean the same defaults', async () => {
  const { app, service } = fakeApp();
  const nulls = Object.fromEntries(OPTIONAL.split(' ').map((field) => [field, null]));
  const message = { role: 'user', content: 'Hello there', name: null, tool_calls: null };
  await supertest(app).post('/v1/chat/completions').send(CHAT).expect(200);
  await supertest(app)
    .post('/v1/chat/completions')
    .send({ ...CHAT, ...nulls, messages: [message] })
    .expect(200);
  const [absent, present] = service.requests.map((request) => ({ ...request, id: '', signal: undefined }));
  assert.deepEqual(present, absent);
  assert.deepEqual(absent!.sampling, {
    temperature: 1,
    topP: 1,
    topK: 0,
    minP: 0,
    seed: undefined,
    presencePenalty: 0,
    frequencyPenalty: 0,
    logitBias: new Map(),
    topLogprobs: undefined,
  });
  assert.equal(absent!.maxTokens, undefined);
  assert.deepEqual(absent!.cache, DEFAULT_CACHE);
  assert.equal(absent!.priority, 0);
  assert.equal(absent!.deadlineMs, undefined);
});

test('fields that ask for nothing are accepted', async () => {
  const { app } = fakeApp();
  const harmless = {
    tools: [],
    tool_choice: 'auto',
    response_format: { type: 'text' },
    store: false,
    metadata: {},
    modalities: ['text'],
    parallel_tool_calls: true,
  };
  await supertest(app)
    .post('/v1/chat/completions')
    .send({ ...CHAT, ...harmless })
    .expect(200);
});

test('what other servers’ clients say of the cache is taken, and only what has an effect changes the request', async () => {
  const { app, service } = fakeApp();
  const content = [{ type: 'text', text: 'Hello there' }];
  const marks = ['5m', '1h', null, undefined].map((ttl) => ({ type: 'ephemeral', ttl }));
  const withoutEffect = [
    { prompt_cache_key: 'x'.repeat(64) },
    { prompt_cache_retention: 'in_memory' },
    { prompt_cache_retention: '24h' },
    { cache_prompt: true },
    { cache_prompt: true, cache: { mode: 'auto' } },
    ...marks.map((cache_control) => ({
      messages: [{ role: 'user', content: [{ ...content[0], cache_control }] }],
    })),
  ];
  for (const fields of [{}, ...withoutEffect]) {
    await supertest(app)
      .post('/v1/chat/completions')
      .send({ ...CHAT, ...fields })
      .expect(200);
  }
  const [plain, ...others] = service.asked;
  for (const each of others) assert.deepEqual(each, plain);
});

test('cache_prompt: false is the mode off, whatever else the cache control says', async () => {
  const { app, service } = fakeApp();
  for (const fields of [{}, { cache: { mode: 'off' } }, { cache: { explain: true } }]) {
    await supertest(app)
      .post('/v1/completions')
      .send({ ...TEXT, cache_prompt: false, ...fields })
      .expect(200);
  }
  assert.deepEqual(
    service.requests.map(({ cache: { mode, explain } }) => [mode, explain]),
    [
      ['off', false],
      ['off', false],
      ['off', true],
    ],
  );
});

test('a message that a client got from the API can be sent back as it is', async () => {
  const { app } = fakeApp();
  const first = await supertest(app).post('/v1/chat/completions').send(CHAT).expect(200);
  const messages = [...CHAT.messages, first.body.choices[0].message, { role: 'user', content: 'And then?' }];
  await supertest(app)
    .post('/v1/chat/completions')
    .send({ ...CHAT, messages })
    .expect(200);
});

test('a prompt may be text, tokens, or a list with one of them, and defaults to 16 tokens', async () => {
  const { app, service } = fakeApp();
  for (const prompt of ['Hi', ['Hi'], [1, 2], [[1, 2]]]) {
    await supertest(app).post('/v1/completions').send({ model: 'fake/model-1', prompt }).expect(200);
  }
  assert.deepEqual(
    service.requests.map(({ prompt }) => prompt),
    [
      { kind: 'text', text: 'Hi' },
      { kind: 'text', text: 'Hi' },
      { kind: 'tokens', tokens: [1, 2] },
      { kind: 'tokens', tokens: [1, 2] },
    ],
  );
  assert.deepEqual(
    service.requests.map(({ maxTokens }) => maxTokens),
    [16, 16, 16, 16],
  );
});

test('each API key has its own namespace, and no request carries the key itself', async () => {
  const { app, service } = fakeApp();
  for (const authorization of ['Bearer key-one', 'bearer  key-one', 'Bearer key-two', 'Bearer ']) {
    await supertest(app).post('/v1/chat/completions').set({ authorization }).send(CHAT).expect(200);
  }
  await supertest(app).post('/v1/chat/completions').send(CHAT).expect(200);
  const [one, again, two, empty, none] = service.requests.map(({ namespace }) => namespace);
  assert.match(one!, /^[0-9a-f]{64}$/);
  assert.match(two!, /^[0-9a-f]{64}$/);
  assert.equal(again, one);
  assert.notEqual(two, one);
  assert.deepEqual([empty, none], ['', '']);
  assert.doesNotMatch(JSON.stringify(service.requests), /key-one/);
});

test('a salt makes a namespace of its own for each API key, whose stored documents and share of the engine stay', async () => {
  const { app, service } = fakeApp();
  const owners: string[] = [];
  service.documents = {
    find: (owner) => {
      owners.push(owner);
      return { title: undefined, text: 'stored' };
    },
  };
  const cases = [
    { key: 'one' },
    { key: 'one', salt: 'a' },
    { key: 'one', salt: 'a' },
    { key: 'one', salt: 'b' },
    { key: 'two', salt: 'a' },
    { salt: 'a' },
  ];
  for (const { key, salt } of cases) {
    await supertest(app)
      .post('/v1/chat/completions')
      .set(key === undefined ? {} : { authorization: `Bearer ${key}` })
      .send({ ...CHAT, documents: [{ id: 'stored' }], ...(salt === undefined ? {} : { cache_salt: salt }) })
      .expect(200);
  }
  const [plain, salted, again, ...others] = service.requests.map(({ namespace }) => namespace);
  assert.equal(again, salted);
  assert.equal(new Set([plain, salted, ...others]).size, 5);
  for (const { namespace } of service.requests) assert.match(namespace, /^([0-9a-f]{64})?(\.[0-9a-f]{64})?$/);
  const tenants = service.requests.map(({ tenant }) => tenant);
  assert.deepEqual(tenants, ['one', 'one', 'one', 'one', 'two', ''].map(namespaceOf));
  assert.deepEqual(owners, tenants);
});
