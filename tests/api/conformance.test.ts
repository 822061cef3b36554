import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI, { AuthenticationError, InternalServerError, NotFoundError, RateLimitError } from 'openai';
import { type RunningServer, startServer } from '../../src/api/server.js';
import { RadixkvError } from '../../src/errors.js';
import { fakeApp } from '../support/fake-app.js';
import { testKeys } from '../support/key-files.js';
import { conformanceSuite } from './conformance.js';

const parts = fakeApp();
parts.service.stallAfterTokens = 30;
let server: RunningServer;
before(async () => {
  server = await startServer({ app: parts.app, host: '127.0.0.1', port: 0, shutdownTimeoutMs: 1000 });
});
after(() => server.close());

const { id: model, contextTokens } = parts.service.model;
conformanceSuite('a fake model', () => ({ baseUrl: server.url, model, contextTokens }));

function openai(maxRetries = 0) {
  return new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'conformance', maxRetries });
}

const CHAT = { model, messages: [{ role: 'user' as const, content: 'Hello' }] };

function defect(): never {
  throw new TypeError('a defect');
}

test('the openai client lists and retrieves the model', async () => {
  const ids: string[] = [];
  for await (const each of openai().models.list()) ids.push(each.id);
  assert.deepEqual(ids, [model]);
  assert.equal((await openai().models.retrieve(model)).id, model);
  await assert.rejects(openai().models.retrieve('nobody'), NotFoundError);
});

test('the openai client turns overload and a failed engine into its own errors', async () => {
  for (const [code, type] of [
    ['queue_full', RateLimitError],
    ['engine_failed', InternalServerError],
  ] as const) {
    const reply = () => {
      throw new RadixkvError(code, 'Later.', { retryAfterS: 3 });
    };
    await parts.service.whileReplying(reply, () =>
      assert.rejects(openai().chat.completions.create(CHAT), (error) => {
        assert.ok(error instanceof type);
        assert.equal(error.headers.get('retry-after'), '3');
        return error.code === code;
      }),
    );
  }
});

test('the openai client turns a wrong key, and one that has used up its limit, into its own errors', async (t) => {
  const keys = testKeys(t);
  const apiKey = keys.create('a');
  keys.file.setLimits('a', { requestsPerMinute: 1, tokensPerMinute: undefined });
  const { app } = fakeApp({ access: keys.access() });
  const guarded = await startServer({ app, host: '127.0.0.1', port: 0, shutdownTimeoutMs: 0 });
  t.after(() => guarded.close());
  const ask = (key: string) =>
    new OpenAI({ baseURL: `${guarded.url}/v1`, apiKey: key, maxRetries: 0 }).chat.completions.create(CHAT);
  await assert.rejects(ask('wrong'), (error) => {
    return error instanceof AuthenticationError && error.code === 'invalid_api_key';
  });
  await ask(apiKey);
  await assert.rejects(ask(apiKey), (error) => {
    return error instanceof RateLimitError && error.headers.get('x-ratelimit-limit-requests') === '1';
  });
});

test('the openai client does not try again what no retry can mend', async () => {
  const requestsBefore = parts.service.requests.length;
  await parts.service.whileReplying(defect, () =>
    assert.rejects(openai(2).chat.completions.create(CHAT), InternalServerError),
  );
  assert.equal(parts.service.requests.length, requestsBefore + 1);
});

test('the openai client throws when a stream breaks', async () => {
  await parts.service.whileReplying(
    (request) => parts.service.breakInText(request),
    async () => {
      const stream = await openai().chat.completions.create({ ...CHAT, stream: true });
      let text = '';
      const read = async () => {
        for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
      };
      await assert.rejects(read(), /The engine stopped/);
      assert.notEqual(text, '');
    },
  );
});

test('the openai client reads the older shape of log probabilities', async () => {
  const { choices } = await openai().completions.create({
    model,
    prompt: 'Hello',
    max_tokens: 5,
    logprobs: 2,
  });
  const { text, logprobs } = choices[0]!;
  assert.equal(logprobs!.tokens!.join(''), text);
  assert.equal(logprobs!.token_logprobs!.length, 5);
  assert.ok(logprobs!.top_logprobs!.every((each) => Object.keys(each).length === 2));
  const points = Array.from(text);
  for (const [at, offset] of logprobs!.text_offset!.entries()) {
    assert.ok(points.slice(offset).join('').startsWith(logprobs!.tokens![at]!));
  }
});

test('the stream helper of the openai client assembles the message', async () => {
  const stream = openai().chat.completions.stream({ ...CHAT, n: 1, stream_options: { include_usage: true } });
  const completion = await stream.finalChatCompletion();
  const whole = await openai().chat.completions.create(CHAT);
  assert.equal(completion.choices[0]!.message.content, whole.choices[0]!.message.content);
  assert.equal(completion.usage!.completion_tokens, whole.usage!.completion_tokens);
});

test('no request of these clients is left running', () => {
  assert.equal(parts.service.activeRequests, 0);
});
