/** Who shares KV with whom, over HTTP and with the real service: API keys, salts, and the endpoints among them. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import supertest from 'supertest';
import { createApp } from '../../src/api/app.js';
import { namespaceOf, saltedNamespace } from '../../src/api/namespace.js';
import { testBackend } from '../support/backend.js';

const { service, statistics, scheduler } = await testBackend({ after });
const app = createApp({ service, statistics });
const model = service.model.id;

let prompts = 0;
/** A prompt of some chunks that no test has used. */
const freshPrompt = () => `${prompts++} ${'The quick brown fox jumps over the lazy dog. '.repeat(6)}`;

interface Asking {
  readonly key?: string;
  readonly fields?: object;
}

/** Tokens of a chat's prompt, and those that were cached. */
async function chat(prompt: string, { key, fields }: Asking = {}) {
  const { body } = await supertest(app)
    .post('/v1/chat/completions')
    .set(key === undefined ? {} : { authorization: `Bearer ${key}` })
    .send({ model, messages: [{ role: 'user', content: prompt }], max_tokens: 2, ...fields })
    .expect(200);
  await scheduler.idle();
  const { prompt_tokens, prompt_tokens_details } = body.usage;
  return { promptTokens: prompt_tokens, cachedTokens: prompt_tokens_details.cached_tokens };
}

async function text(prompt: string, fields: object): Promise<number> {
  const { body } = await supertest(app)
    .post('/v1/completions')
    .send({ model, prompt, max_tokens: 2, ...fields })
    .expect(200);
  return body.usage.prompt_tokens_details.cached_tokens;
}

async function message(prompt: string, { key, fields }: Asking = {}) {
  const { body } = await supertest(app)
    .post('/v1/messages')
    .set(key === undefined ? {} : { 'x-api-key': key })
    .send({ model, messages: [{ role: 'user', content: prompt }], max_tokens: 2, ...fields })
    .expect(200);
  const { input_tokens, cache_creation_input_tokens, cache_read_input_tokens } = body.usage;
  return {
    promptTokens: input_tokens + cache_creation_input_tokens + cache_read_input_tokens,
    cachedTokens: cache_read_input_tokens,
  };
}

test('a chat and a message with the same key are the same prompt, and share all of its KV', async () => {
  const prompt = freshPrompt();
  const { promptTokens, cachedTokens } = await chat(prompt, { key: 'one' });
  assert.equal(cachedTokens, 0);
  assert.deepEqual(await message(prompt, { key: 'one' }), { promptTokens, cachedTokens: promptTokens - 1 });
  assert.deepEqual(await message(prompt, { key: 'two' }), { promptTokens, cachedTokens: 0 });
});

test('what a system prompt brings in a message a chat finds, marked or not', async () => {
  const system = freshPrompt();
  const cache_control = { type: 'ephemeral', ttl: '1h' };
  const marked = { system: [{ type: 'text', text: system, cache_control }] };
  const { promptTokens } = await message('Hello', { key: 'system', fields: marked });
  const messages = [
    { role: 'system', content: [{ type: 'text', text: system, cache_control }] },
    { role: 'user', content: 'Hello' },
  ];
  const found = await chat('', { key: 'system', fields: { messages } });
  assert.deepEqual(found, { promptTokens, cachedTokens: promptTokens - 1 });
});

const salted = (salt: string) => ({ key: 'salty', fields: { cache_salt: salt } });

test('equal prompts share KV within a salt, and none with another salt or without one', async () => {
  const prompt = freshPrompt();
  const { promptTokens } = await chat(prompt, salted('a'));
  assert.equal((await chat(prompt, salted('a'))).cachedTokens, promptTokens - 1);
  assert.equal((await chat(prompt, salted('b'))).cachedTokens, 0);
  assert.equal((await chat(prompt, { key: 'salty' })).cachedTokens, 0);
  assert.equal((await chat(prompt, { key: 'other', fields: { cache_salt: 'a' } })).cachedTokens, 0);
  assert.equal((await chat(prompt, salted('a'))).cachedTokens, promptTokens - 1);
});

test('a salt sets texts apart as it does chats', async () => {
  const prompt = freshPrompt();
  await text(prompt, { cache_salt: 'a' });
  assert.ok((await text(prompt, { cache_salt: 'a' })) > 0);
  assert.equal(await text(prompt, { cache_salt: 'b' }), 0);
  assert.equal(await text(prompt, {}), 0);
});

test('cache_prompt: false reads no KV and leaves none', async () => {
  const prompt = freshPrompt();
  const off = { key: 'off', fields: { cache_prompt: false } };
  await chat(prompt, off);
  const { promptTokens, cachedTokens } = await chat(prompt, { key: 'off' });
  assert.equal(cachedTokens, 0);
  assert.equal((await chat(prompt, off)).cachedTokens, 0);
  assert.equal((await chat(prompt, { key: 'off' })).cachedTokens, promptTokens - 1);
});

test('the first event of a stream has the usage of the prompt that the last one has', async () => {
  const prompt = freshPrompt();
  await message(prompt);
  const { text: events } = await supertest(app)
    .post('/v1/messages')
    .send({ model, messages: [{ role: 'user', content: prompt }], max_tokens: 2, stream: true })
    .expect(200);
  const [start, ...rest] = [...events.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data!));
  const { usage } = rest.at(-2);
  assert.deepEqual({ ...start.message.usage, output_tokens: usage.output_tokens }, usage);
  assert.ok(usage.cache_read_input_tokens > 0);
});

/** A greedy answer: its text, and why it ended. */
async function goOn(fields: object): Promise<{ text: string; stop_reason: string; stop_sequence: string }> {
  const messages = [{ role: 'user', content: 'Go on.' }];
  const { body } = await supertest(app)
    .post('/v1/messages')
    .send({ model, messages, max_tokens: 12, temperature: 0, ...fields })
    .expect(200);
  const { content, stop_reason, stop_sequence } = body;
  return { text: content[0].text, stop_reason, stop_sequence };
}

test('a real answer tells which stop sequence ended it', async () => {
  const whole = await goOn({});
  const stop = Array.from(whole.text).slice(2, 4).join('');
  assert.deepEqual(await goOn({ stop_sequences: ['never said', stop] }), {
    text: whole.text.slice(0, whole.text.indexOf(stop)),
    stop_reason: 'stop_sequence',
    stop_sequence: stop,
  });
});

test('no salt and key make the namespace of another salt and key', () => {
  const keys = ['', 'a', 'ab', 'Bearer a', namespaceOf('a'), `${namespaceOf('a')}a`];
  const salts = [undefined, 'a', 'ab', '\0', '\0a', 'a\0a', namespaceOf('a'), `${namespaceOf('a')}\0a`];
  const all = keys.flatMap((key) => salts.map((salt) => saltedNamespace(namespaceOf(key), salt)));
  assert.equal(new Set(all).size, keys.length * salts.length);
});
