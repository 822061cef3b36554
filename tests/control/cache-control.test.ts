/** The control plane of the cache over HTTP, with the real engine on the tiny chat model. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { TINY_CHUNK_BYTES, TINY_TOKEN_BYTES } from '../support/backend.js';
import { type Served, served } from '../support/served.js';

const SYSTEM = 'You answer all questions about the lighthouse and its keepers, in one sentence each. '.repeat(
  3,
);

const chat = (system: string, ...rest: readonly string[]) => [
  { role: 'system', content: system },
  ...rest.map((content, i) => ({ role: i % 2 === 0 ? 'user' : 'assistant', content })),
];

suite('lookup', () => {
  test('tells what the next request finds, by tier, for any prompt and tenant', async (t) => {
    const { backend, model, send, complete } = await served(t, { deviceBytes: 1024 * TINY_TOKEN_BYTES });
    const asked = fc.record({
      text: fc.constantFrom('a', 'b', 'ab').chain((letters) => fc.nat(200).map((n) => letters.repeat(n + 1))),
      key: fc.constantFrom('', 'one', 'two'),
      dropsDevice: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(asked, async ({ text, key, dropsDevice }) => {
        if (dropsDevice) backend.cache.dropWarm();
        const { body } = await send('post', '/v1/cache/lookup', { model, prompt: text }, key);
        const again = await send('post', '/v1/cache/lookup', { model, prompt: text }, key);
        assert.deepEqual(again.body, body);
        const { timings, usage } = (await complete(text, key)).body;
        assert.deepEqual(body.by_tier, timings.cached_tokens);
        assert.equal(body.prompt_tokens, usage.prompt_tokens);
        assert.equal(body.computed_tokens, timings.computed_tokens);
        assert.equal(body.cached_tokens, usage.prompt_tokens_details.cached_tokens);
      }),
      { numRuns: 60 },
    );
  });

  test('is no use: what was looked up leaves as it would have', async (t) => {
    const { backend, model, send, complete } = await served(t, { hostBytes: 16 * TINY_CHUNK_BYTES });
    const prompts = ['a', 'b', 'c'].map((letter) => letter.repeat(5 * 16 + 1));
    for (const prompt of prompts) await complete(prompt);
    for (let i = 0; i < 5; i++) await send('post', '/v1/cache/lookup', { model, prompt: prompts[0]! });
    await complete('d'.repeat(5 * 16 + 1));
    backend.cache.dropWarm();
    const cached = [];
    for (const prompt of prompts)
      cached.push((await send('post', '/v1/cache/lookup', { model, prompt })).body.cached_tokens);
    assert(cached[0] < cached[1] && cached[1] === cached[2], cached.join());
  });

  test('refuses what a completion would, and a body without one prompt', async (t) => {
    const { model, send } = await served(t);
    const refusals = [
      [{ model }, 'invalid_value', 'messages'],
      [{ model, prompt: 'a', messages: [{ role: 'user', content: 'a' }] }, 'invalid_value', 'messages'],
      [{ model, prompt: '' }, 'invalid_value', 'prompt'],
      [{ model, prompt: 'a', max_tokens: 1 }, 'unsupported_field', 'max_tokens'],
      [{ model, messages: [] }, 'invalid_value', 'messages'],
      [{ model: 'another', prompt: 'a' }, 'model_not_found', 'model'],
      [{ model, prompt: [1e6] }, 'invalid_value', 'prompt'],
    ] as const;
    for (const [body, code, param] of refusals) {
      for (const path of ['/v1/cache/lookup', '/v1/cache/explain', '/v1/cache/pins']) {
        const { body: answer } = await send('post', path, body);
        assert.deepEqual([answer.error?.code, answer.error?.param], [code, param], JSON.stringify(body));
      }
    }
  });
});

async function explained(t: Parameters<typeof served>[0]) {
  const { backend, model, send } = await served(t);
  return {
    answer: async (messages: readonly object[]) => {
      const body = { model, messages, max_tokens: 1 };
      assert.equal((await send('post', '/v1/chat/completions', body)).status, 200);
      await backend.scheduler.idle();
    },
    explain: async (messages: readonly object[], key?: string) =>
      (await send('post', '/v1/cache/explain', { model, messages }, key)).body,
  };
}

const at = (time: string) => chat(`${SYSTEM} It is ${time} now. Be brief.`, 'Who lit the lamp?');

suite('explain', () => {
  test('finds the time that stands in a system prompt', async (t) => {
    const { answer, explain } = await explained(t);
    await answer(at('12:30:05'));
    const { divergence, cached_tokens } = await explain(at('12:31:17'));
    assert.equal(divergence.reason, 'other_text');
    assert.deepEqual(divergence.message, { index: 0, role: 'system' });
    assert.equal(divergence.looks_like, 'time_or_number');
    assert(divergence.common_text.endsWith('It is 12:3'));
    assert(divergence.prompt_text.startsWith('1:17 now.'));
    assert(divergence.cached_text.startsWith('0:05 now.'));
    assert.equal(divergence.token, cached_tokens);
  });

  test('finds the message that is another one, and what looks like tools or a think block', async (t) => {
    const { answer, explain } = await explained(t);
    await answer(chat(SYSTEM, 'Hello?', '{"name": "lamp"}', 'And then?'));
    const tools = (await explain(chat(SYSTEM, 'Hello?', '{"name": "boat"}', 'And then?'))).divergence;
    assert.deepEqual(tools.message, { index: 2, role: 'assistant' });
    const think = (await explain(chat(SYSTEM, 'Hello?', '<think></think>', 'And then?'))).divergence;
    assert.equal(think.looks_like, 'think_block');
  });

  test('tells the next turn of a chat from a stranger, and has nothing to say where all is cached', async (t) => {
    const { answer, explain } = await explained(t);
    const turn = chat(SYSTEM, 'Who lit the lamp?');
    assert.equal((await explain(turn)).divergence.reason, 'nothing_cached');
    await answer(turn);
    assert.equal((await explain(turn)).divergence, null);
    assert.equal((await explain(turn, 'another key')).divergence.reason, 'nothing_cached');
    const next = await explain([
      ...turn,
      { role: 'assistant', content: 'Ada.' },
      { role: 'user', content: 'When?' },
    ]);
    assert.notEqual(next.divergence.reason, 'nothing_cached');
    assert(next.divergence.message.index >= 1);
  });
});

const done = async ({ send }: Served, id: string, key?: string) => {
  for (;;) {
    const { body } = await send('get', `/v1/cache/warm/${id}`, undefined, key);
    if (body.status !== 'queued' && body.status !== 'running') return body;
    await sleep(5);
  }
};

suite('warming', () => {
  test('computes prompts ahead of time, so that they hit', async (t) => {
    const all = await served(t);
    const { model, send, complete } = all;
    const prompts = [{ prompt: 'a'.repeat(300) }, { messages: chat(SYSTEM, 'Who lit the lamp?') }];
    const created = await send('post', '/v1/cache/warm', { model, prompts }, 'one');
    assert.equal(created.status, 202);
    assert.equal((await send('get', `/v1/cache/warm/${created.body.id}`, undefined, 'two')).status, 404);
    const job = await done(all, created.body.id, 'one');
    assert.equal(job.status, 'done');
    assert.deepEqual(job.progress, { done: 2, prompts: 2 });
    assert(job.computed_tokens > 500 && job.cached_tokens === 0);
    assert.deepEqual(job.errors, []);
    const { usage } = (await complete('a'.repeat(300), 'one')).body;
    assert.equal(usage.prompt_tokens_details.cached_tokens, 299);
    assert.equal((await complete('a'.repeat(300), 'two')).body.usage.prompt_tokens_details.cached_tokens, 0);
  });

  test('goes after all requests, and can be cancelled', async (t) => {
    const all = await served(t, { maxActive: 1 });
    const { model, send, complete, backend } = all;
    const prompts = Array.from({ length: 20 }, (_, i) => ({ prompt: `${i} `.repeat(400) }));
    const { body } = await send('post', '/v1/cache/warm', { model, prompts });
    const { timings } = (await complete('now')).body;
    assert(timings.computed_tokens === 3);
    const cancelled = (await send('delete', `/v1/cache/warm/${body.id}`)).body;
    assert.equal(cancelled.status, 'cancelled');
    await backend.scheduler.idle();
    const left = (await send('get', `/v1/cache/warm/${body.id}`)).body;
    assert(left.progress.done < 20);
    assert.deepEqual(backend.cache.audit(), { activeRuns: 0, leases: 0 });
  });

  test('listens to the abort of a job once, however many prompts it has', async (t) => {
    const all = await served(t);
    const { model, send } = all;
    const warnings: Error[] = [];
    const onWarning = (warning: Error) => warnings.push(warning);
    process.on('warning', onWarning);
    t.after(async () => void process.off('warning', onWarning));
    const prompts = Array.from({ length: 20 }, (_, i) => ({ prompt: `${i} of twenty` }));
    const { body } = await send('post', '/v1/cache/warm', { model, prompts });
    await done(all, body.id);
    assert.deepEqual(warnings, []);
  });

  test('names the prompt that can not be computed, before anything is', async (t) => {
    const { model, send } = await served(t);
    const body = { model, prompts: [{ prompt: 'fine' }, { prompt: 'x'.repeat(5000) }] };
    const { body: answer } = await send('post', '/v1/cache/warm', body);
    assert.equal(answer.error.code, 'context_length_exceeded');
    assert.equal(answer.error.param, 'prompts[1].prompt');
  });
});

suite('pins', () => {
  test('keep a prefix while others come and go, until they are deleted', async (t) => {
    const { backend, model, send, complete } = await served(t, {
      hostBytes: 24 * TINY_CHUNK_BYTES,
      segmentShare: 0,
    });
    const pinned = 'p'.repeat(4 * 16 + 5);
    const created = await send(
      'post',
      '/v1/cache/pins',
      { model, prompt: pinned, ttl_seconds: 600, priority: 90 },
      'one',
    );
    assert.equal(created.status, 201, created.text);
    const { id, ...pin } = created.body;
    assert.deepEqual(pin, {
      object: 'cache.pin',
      created_at: pin.created_at,
      tokens: 64,
      cached_tokens: 64,
      whole: true,
      ttl_seconds: 600,
      priority: 90,
    });
    const flood = async (round: number) => {
      for (let i = 0; i < 12; i++) await complete(`${round} ${i} `.repeat(12), 'one');
      backend.cache.dropWarm();
    };
    await flood(0);
    assert.equal((await send('get', `/v1/cache/pins/${id}`, undefined, 'one')).body.cached_tokens, 64);
    assert.deepEqual((await send('get', '/v1/cache/pins', undefined, 'two')).body.data, []);
    assert.equal((await send('delete', `/v1/cache/pins/${id}`, undefined, 'two')).status, 404);
    assert.equal((await send('delete', `/v1/cache/pins/${id}`, undefined, 'one')).body.deleted, true);
    await flood(1);
    await flood(2);
    const { body } = await send('post', '/v1/cache/lookup', { model, prompt: pinned }, 'one');
    assert.equal(body.cached_tokens, 0);
  });

  test('that share a prefix hold it each for itself', async (t) => {
    const { model, send } = await served(t);
    const pin = async (prompt: string) => (await send('post', '/v1/cache/pins', { model, prompt })).body.id;
    const [short, long] = [await pin('p'.repeat(40)), await pin('p'.repeat(80))];
    await send('delete', `/v1/cache/pins/${long}`);
    const { data } = (await send('get', '/v1/cache/pins')).body;
    assert.deepEqual(
      data.map(({ id, whole }: { id: string; whole: boolean }) => [id, whole]),
      [[short, true]],
    );
  });

  test('take no more than their share, and whole chunks only', async (t) => {
    const { model, send } = await served(t, { hostBytes: 16 * TINY_CHUNK_BYTES });
    const tooLarge = await send('post', '/v1/cache/pins', { model, prompt: 'p'.repeat(16 * 12) });
    assert.equal(tooLarge.body.error.code, 'pins_full');
    assert.equal(tooLarge.status, 409);
    const tooShort = await send('post', '/v1/cache/pins', { model, prompt: 'short' });
    assert.equal(tooShort.body.error.code, 'invalid_value');
  });

  test('need a tier below the device', async (t) => {
    const { model, send } = await served(t, { hostBytes: 0 });
    const { body } = await send('post', '/v1/cache/pins', { model, prompt: 'p'.repeat(100) });
    assert.equal(body.error.code, 'not_cached');
  });
});

suite('clearing', () => {
  test('forgets what a tenant has, and nobody else', async (t) => {
    const { model, send, complete } = await served(t);
    const prompt = 'a'.repeat(200);
    const cached = async (key: string) =>
      (await send('post', '/v1/cache/lookup', { model, prompt }, key)).body.cached_tokens;
    for (const key of ['one', 'two']) await complete(prompt, key);
    const { body } = await send('delete', '/v1/cache', undefined, 'one');
    assert.deepEqual(body, {
      object: 'cache.cleared',
      tier: null,
      chunks: 12,
      runs: 1,
      in_use: { chunks: 0, runs: 0 },
      kept: { pinned: 0, shared: 0 },
    });
    assert.equal(await cached('one'), 0);
    assert.equal(await cached('two'), 199);
    assert.equal((await complete(prompt, 'one')).body.timings.computed_tokens, 200);
  });

  test('of a salt is of its part only, which is looked at by its salt alone', async (t) => {
    const { model, send, backend } = await served(t);
    const prompt = 'a'.repeat(200);
    for (const salt of [undefined, 's', 't']) {
      await send('post', '/v1/completions', { model, prompt, max_tokens: 1, cache_salt: salt });
    }
    await backend.scheduler.idle();
    const cached = async (salt?: string) =>
      (await send('post', '/v1/cache/lookup', { model, prompt, cache_salt: salt })).body.cached_tokens;
    assert.deepEqual([await cached(), await cached('s'), await cached('u')], [199, 199, 0]);
    assert.equal((await send('get', '/v1/cache/tree?cache_salt=u')).body.total, 0);
    assert.equal((await send('get', '/v1/cache/tree?cache_salt=s')).body.total, 1);
    const { body } = await send('delete', '/v1/cache?cache_salt=s');
    assert.equal(body.chunks, 12);
    assert.deepEqual([await cached(), await cached('s'), await cached('t')], [199, 0, 199]);
    const { divergence } = (await send('post', '/v1/cache/explain', { model, prompt, cache_salt: 's' })).body;
    assert.equal(divergence.reason, 'nothing_cached');
  });

  test('of one tier leaves the others', async (t) => {
    const { model, send, complete } = await served(t);
    await complete('a'.repeat(200));
    const tiers = async () =>
      (await send('post', '/v1/cache/lookup', { model, prompt: 'a'.repeat(200) })).body.by_tier;
    await send('delete', '/v1/cache?tier=device');
    assert.deepEqual(await tiers(), { device: 0, host: 192, disk: 0, remote: 0 });
    await send('delete', '/v1/cache?tier=disk');
    assert.deepEqual(await tiers(), { device: 0, host: 192, disk: 0, remote: 0 });
    await send('delete', '/v1/cache?tier=host');
    assert.deepEqual(await tiers(), { device: 0, host: 0, disk: 0, remote: 0 });
    assert.equal((await send('delete', '/v1/cache?tier=tape')).body.error.param, 'tier');
  });

  test('while it is in use lets requests go on, and nothing of them is kept', async (t) => {
    const { backend, model, send } = await served(t);
    const prompt = 'b'.repeat(300);
    let cleared: Promise<unknown> | undefined;
    backend.tap.onRequest = ({ op }) => {
      if (op === 'decode') cleared ??= send('delete', '/v1/cache');
    };
    const body = { model, prompt, max_tokens: 40, temperature: 0, logit_bias: { 97: 100 } };
    const answer = await send('post', '/v1/completions', body);
    assert.equal(answer.body.choices[0].text, 'a'.repeat(40));
    await cleared;
    await backend.scheduler.idle();
    assert.equal((await send('post', '/v1/cache/lookup', { model, prompt })).body.cached_tokens, 0);
    assert.deepEqual(backend.cache.audit(), { activeRuns: 0, leases: 0 });
  });
});

suite('the tree', () => {
  test('is shown node by node, the largest first, with its texts, to its tenant', async (t) => {
    const { send, complete } = await served(t);
    const start = 'They all begin with these words. ';
    for (const end of ['a', 'b', 'cc']) await complete(start + end.repeat(100), 'one');
    const nodes = async (query: string, key = 'one') =>
      (await send('get', `/v1/cache/tree${query}`, undefined, key)).body;
    const roots = await nodes('');
    assert.equal(roots.total, 1);
    const [root] = roots.data;
    assert.equal(root.text, start.slice(0, 32));
    assert.equal(root.children, 3);
    const children = await nodes(`?place=${root.place}`);
    assert.deepEqual(
      children.data.map(({ text }: { text: string }) => text[1]),
      ['c', 'a', 'b'],
    );
    assert(
      children.data[0].chunks_below === 0 && children.data[0].chunks_host > children.data[1].chunks_host,
    );
    const page = await nodes(`?place=${root.place}&limit=1&offset=1`);
    assert.deepEqual(page.data, [children.data[1]]);
    assert.equal(page.has_more, true);
    assert.deepEqual((await nodes('', 'two')).data, []);
    assert.deepEqual((await nodes('?place=1.2.3')).data, []);
    assert.equal((await nodes('?place=x')).error.param, 'place');
    assert.equal((await nodes('?limit=0')).error.param, 'limit');
  });
});
