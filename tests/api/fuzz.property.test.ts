import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { after, before, suite, test } from 'node:test';
import fc from 'fast-check';
import { createApp } from '../../src/api/app.js';
import { type RunningServer, startServer } from '../../src/api/server.js';
import { Shelf } from '../documents/fixtures.js';
import { fakeApp } from '../support/fake-app.js';

const CHAT = {
  model: 'fake/model-1',
  messages: [
    { role: 'system', content: 'Be brief.' },
    {
      role: 'user',
      content: [{ type: 'text', text: 'Hello', cache_control: { type: 'ephemeral', ttl: '1h' } }],
    },
  ],
  max_tokens: 3,
  temperature: 0,
  stop: ['x'],
  logit_bias: { 3: 1 },
  logprobs: true,
  top_logprobs: 2,
  stream_options: { include_usage: true },
  stream: true,
  documents: [{ id: 'a', title: 'One', text: 'the first' }, { text: 'the second' }],
  cache: { mode: 'blend', recompute_ratio: 0.2, selector: 'heads', explain: true },
  cache_salt: 'a',
  cache_prompt: true,
  prompt_cache_key: 'b',
  prompt_cache_retention: '24h',
};
const MESSAGE = {
  model: 'fake/model-1',
  system: [{ type: 'text', text: 'Be brief.', cache_control: { type: 'ephemeral' } }],
  messages: [{ role: 'user', content: [{ type: 'text', text: 'Hello' }] }],
  max_tokens: 3,
  stop_sequences: ['x'],
  metadata: { user_id: 'a' },
  stream: true,
};
const TEXT = {
  model: 'fake/model-1',
  prompt: [1, 2, 3],
  max_tokens: 3,
  logprobs: 2,
  n: 2,
  echo: false,
  cache: { mode: 'exact', explain: true },
};

/** Values that break parsers, beside any JSON. */
const odd = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom<unknown>(
    null,
    true,
    -1,
    0,
    1e308,
    2 ** 53,
    '',
    '\ud800',
    '__proto__',
    [],
    {},
    [[]],
    [null],
  ),
  fc.constant(JSON.parse('{"__proto__": {"role": "user"}, "constructor": 1}') as unknown),
);

/** Every path of `value`, the root included. */
function paths(value: unknown): PropertyKey[][] {
  if (typeof value !== 'object' || value === null) return [[]];
  const below = Object.entries(value).flatMap(([key, child]) => paths(child).map((path) => [key, ...path]));
  return [[], ...below];
}

/** `value` with what is at `path` replaced, or as it is when a former change took the path away. */
function replaced(value: unknown, path: readonly PropertyKey[], by: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return by;
  if (typeof value !== 'object' || value === null) return value;
  const copy = Array.isArray(value) ? [...value] : { ...value };
  Reflect.set(copy, key, replaced(Reflect.get(copy, key), rest, by));
  return copy;
}

const DOCUMENT = { title: 'One', text: 'the first', ttl_seconds: 60, pinned: true };

const endpoint = fc.constantFrom(
  ['chat/completions', CHAT] as const,
  ['completions', TEXT] as const,
  ['messages', MESSAGE] as const,
  ['documents/a', DOCUMENT] as const,
  ['documents/batch', { ...DOCUMENT, id: 'a' }] as const,
);

/** A valid body with some values replaced and some fields added. */
const mutated = endpoint.chain(([path, valid]) =>
  fc
    .record({
      changes: fc.array(fc.tuple(fc.constantFrom(...paths(valid)), odd), { maxLength: 3 }),
      added: fc.dictionary(fc.string({ maxLength: 12 }), odd, { maxKeys: 1 }),
    })
    .map(({ changes, added }) => ({
      path,
      text: JSON.stringify(
        changes.reduce<unknown>((body, [at, value]) => replaced(body, at, value), { ...valid, ...added }),
      ),
    })),
);

/** A valid body cut or with characters changed: mostly not JSON any more. */
const garbled = fc
  .tuple(endpoint, fc.nat(), fc.nat(60), fc.string({ maxLength: 8 }))
  .map(([[path, valid], at, cut, inserted]) => {
    const text = JSON.stringify(valid);
    const start = at % text.length;
    return { path, text: text.slice(0, start) + inserted + text.slice(start + cut) };
  });

suite('bad input', () => {
  let server: RunningServer;
  const shelf = new Shelf();
  before(async () => {
    const { service, statistics } = fakeApp();
    const app = createApp({ service, statistics, documents: shelf.library });
    server = await startServer({ app, host: '127.0.0.1', port: 0, shutdownTimeoutMs: 0 });
  });
  after(async () => {
    await server.close();
    await shelf.dispose();
  });

  const send = async (path: string, body: string) => {
    const response = await fetch(`${server.url}/v1/${path}`, {
      method: path === 'documents/a' ? 'PUT' : 'POST',
      headers: { 'content-type': path === 'documents/batch' ? 'application/x-ndjson' : 'application/json' },
      body,
      signal: AbortSignal.timeout(10_000),
    });
    return { status: response.status, text: await response.text() };
  };

  const answersWell = async ({ path, text }: { path: string; text: string }) => {
    const answer = await send(path, text);
    assert.ok(answer.status < 500, `${answer.status} for ${text}`);
    if (answer.status >= 400) {
      const { error } = JSON.parse(answer.text);
      const { code, param } =
        path === 'messages' ? { ...error.details, code: error.details.error_code } : error;
      assert.ok(error.message && error.type && code && param !== undefined);
    }
  };

  test('mutated bodies are answered, never with a 500', async () => {
    await fc.assert(fc.asyncProperty(mutated, answersWell), { numRuns: 400 });
  });

  test('garbled bodies are answered, never with a 500', async () => {
    await fc.assert(fc.asyncProperty(garbled, answersWell), { numRuns: 150 });
  });

  test('a batch of many small lines lets others in between', async (context) => {
    const delay = monitorEventLoopDelay({ resolution: 5 });
    delay.enable();
    const { status } = await send('documents/batch', '{}\n'.repeat(60_000));
    delay.disable();
    context.diagnostic(`${(delay.max / 1e6).toFixed(0)} ms`);
    assert.equal(status, 202);
    assert.ok(delay.max < 5e8, `${delay.max / 1e6} ms`);
  });

  const MIB = 1024 * 1024;
  const filled = (piece: string, bytes = 8 * MIB - 4096) => piece.repeat(Math.floor(bytes / piece.length));
  const fields = Array.from({ length: 500_000 }, (_, at) => `"f${at}":1`).join();
  const worst: [name: string, path: string, body: string][] = [
    [
      'one long text',
      'chat/completions',
      `{"model":"m","messages":[{"role":"user","content":"${filled('é')}"}]}`,
    ],
    [
      'one long document',
      'chat/completions',
      `{"model":"m","messages":[],"documents":[{"text":"${filled('é')}"}]}`,
    ],
    [
      'many documents',
      'chat/completions',
      `{"messages":[],"documents":[${filled('{"text":"a"},', 200_000)}{}]}`,
    ],
    ['many messages', 'chat/completions', `{"model":"m","messages":[${filled('{},')}{}]}`],
    ['many parts', 'chat/completions', `{"messages":[{"role":"user","content":[${filled('1,')}1]}]}`],
    ['many blocks', 'messages', `{"messages":[{"role":"user","content":[${filled('1,')}1]}]}`],
    ['many tokens', 'completions', `{"model":"m","prompt":[${filled('1,')}1]}`],
    ['many stop strings', 'completions', `{"prompt":"a","stop":[${filled('"",')}""]}`],
    ['many unknown fields', 'completions', `{${fields}}`],
    ['many biases', 'completions', `{"prompt":"a","logit_bias":{${fields}}}`],
    ['as many fields as allowed', 'completions', `{${fields.split(',', 32_000).join()}}`],
    ['as many tokens as allowed', 'completions', `{"model":"m","prompt":[${filled('1,', 520_000)}1]}`],
    [
      'as deep nesting as allowed',
      'completions',
      `{"prompt":${filled('[', 262_000)}${filled(']', 262_000)}}`,
    ],
    ['deep nesting', 'completions', `{"prompt":${filled('[', 4 * MIB)}${filled(']', 4 * MIB)}}`],
    ['unended nesting', 'completions', filled('[')],
  ];
  for (const [name, path, body] of worst) {
    test(`a body of ${name} hold the event loop for less than half a second`, async (context) => {
      const delay = monitorEventLoopDelay({ resolution: 5 });
      delay.enable();
      const { status } = await send(path, body);
      delay.disable();
      context.diagnostic(`${(delay.max / 1e6).toFixed(0)} ms`);
      assert.ok(status >= 400 && status < 500, String(status));
      assert.ok(delay.max < 5e8, `${delay.max / 1e6} ms`);
    });
  }
});
