/** What requests went through, over HTTP and the tiny model: whose they are, when they computed, why they missed. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import supertest from 'supertest';
import { createApp } from '../../src/api/app.js';
import type { BackendOptions } from '../../src/server.js';
import { PHASES } from '../../src/serving/course.js';
import { TINY_CHUNK_BYTES, testBackend } from '../support/backend.js';
import { testKeys } from '../support/key-files.js';

const RULES = 'The keeper of the lamp answers in one word, and never twice the same. ';

/** A server with two tenants and an operator. */
async function world(t: TestContext, options: Partial<BackendOptions> = {}) {
  const keys = testKeys(t);
  const backend = await testBackend(t, { recentRequests: 5, keepExcerpts: true, ...options });
  const { service, statistics, controls, scheduler } = backend;
  const [alice, bob] = [keys.create('alice'), keys.create('bob')];
  const admin = keys.create('ops', 'admin');
  const app = createApp({ service, statistics, controls, access: keys.access() });
  const complete = async (key: string, prompt: string, more: object = {}) => {
    const { body } = await supertest(app)
      .post('/v1/completions')
      .auth(key, { type: 'bearer' })
      .send({ model: service.model.id, prompt, max_tokens: 3, temperature: 0, ...more });
    return body;
  };
  const get = async (key: string, path: string, status = 200) => {
    const { body } = await supertest(app).get(path).auth(key, { type: 'bearer' }).expect(status);
    return body;
  };
  return { app, backend, scheduler, alice, bob, admin, complete, get };
}

test('a tenant sees its own requests, the newest first, and an admin all; only the last ones are kept', async (t) => {
  const { alice, bob, admin, complete, get } = await world(t);
  const own = [await complete(alice, RULES), await complete(alice, 'what?')];
  const others = await complete(bob, RULES);
  const ids = async (key: string, query = '') =>
    (await get(key, `/v1/requests${query}`)).data.map(({ id }: { id: string }) => id);
  assert.deepEqual(await ids(alice), [own[1].id, own[0].id]);
  assert.deepEqual(await ids(alice, '?limit=1'), [own[1].id]);
  assert.deepEqual(await ids(admin), [others.id, own[1].id, own[0].id]);
  await get(bob, `/v1/requests/${own[0].id}`, 404);
  assert.equal((await get(admin, `/v1/requests/${own[0].id}`)).tenant, 'alice');
  for (let i = 0; i < 4; i++) await complete(bob, `${i}`);
  assert.equal((await ids(admin)).length, 5);
  assert(!(await ids(admin)).includes(own[0].id));
  await get(alice, '/v1/requests?limit=0', 400);
  await get(alice, '/v1/requests?since=1', 400);
});

test('a request tells what its answer told, and its phases follow each other to its end', async (t) => {
  const { alice, complete, get } = await world(t);
  await complete(alice, RULES);
  const answer = await complete(alice, `${RULES}Who?`);
  const { data } = await get(alice, '/v1/requests');
  const [second] = data;
  const { usage, timings } = answer;
  assert.equal(second.outcome, 'completed');
  assert.deepEqual(second.finish_reasons, ['length']);
  assert.equal(second.prompt_tokens, usage.prompt_tokens);
  assert.equal(second.cached_tokens, usage.prompt_tokens_details.cached_tokens);
  assert.equal(second.computed_tokens, timings.computed_tokens);
  assert.equal(second.completion_tokens, usage.completion_tokens);
  assert.equal(second.ttft_ms, timings.ttft_ms);
  assert.deepEqual(
    second.spans.map(({ phase }: { phase: string }) => phase),
    ['queue', 'prefill', 'decode'],
  );
  const [queue, prefill, decode] = second.spans;
  assert.equal(queue.start_ms, 0);
  for (const [span, ms] of [
    [queue, timings.queue_ms],
    [prefill, timings.prefill_ms],
  ])
    assert.equal(span.duration_ms, ms);
  for (const [before, after] of [
    [queue, prefill],
    [prefill, decode],
  ])
    assert(Math.abs(before.start_ms + before.duration_ms - after.start_ms) < 0.01);
  assert(second.duration_ms >= decode.start_ms + decode.duration_ms);
});

test('what was refused is there with its reason, without phases', async (t) => {
  const { alice, complete, get } = await world(t);
  await complete(alice, RULES, { max_tokens: 100_000 });
  const { data } = await get(alice, '/v1/requests');
  const { outcome, error, spans, prompt_tokens, ttft_ms, miss } = data[0];
  assert.deepEqual(
    { outcome, error, spans, prompt_tokens, ttft_ms, miss },
    {
      outcome: 'refused',
      error: 'context_length_exceeded',
      spans: [],
      prompt_tokens: 0,
      ttft_ms: null,
      miss: null,
    },
  );
});

test('a request that gave way has a pause among its phases', async (t) => {
  const { scheduler, alice, complete, get } = await world(t, { maxActive: 1 });
  const endless = { max_tokens: 200, logit_bias: { 256: -100, 257: -100, 258: -100 }, priority: 1 };
  const long = complete(alice, RULES, endless);
  const urgent = async () => {
    while (scheduler.active === 0) await new Promise((resolve) => setImmediate(resolve));
    await complete(alice, 'now', { priority: -1 });
  };
  await Promise.all([long, urgent()]);
  assert(scheduler.preemptions > 0);
  const { data } = await get(alice, '/v1/requests');
  const paused = data[0].spans.filter(({ phase }: { phase: string }) => phase === 'paused');
  assert.equal(paused.length, scheduler.preemptions);
  for (const { start_ms, duration_ms } of paused) {
    assert(duration_ms > 0);
    assert(start_ms + duration_ms <= data[0].duration_ms);
  }
  assert(data[0].spans.every(({ phase }: { phase: string }) => PHASES.some((each) => each === phase)));
});

test('a miss is explained as it was when the request came, with text only where it is kept', async (t) => {
  const { alice, complete, get } = await world(t);
  await complete(alice, `${RULES}It is 12:30 now.`);
  const { id } = await complete(alice, `${RULES}It is 14:55 now.`);
  const same = await complete(alice, `${RULES}It is 14:55 now.`);
  const { miss } = await get(alice, `/v1/requests/${id}`);
  const { token, ...rest } = miss;
  assert.equal(token, RULES.length + 'It is 1'.length);
  assert.equal(rest.reason, 'other_text');
  assert.match(rest.common_text, /It is 1$/);
  assert.equal(rest.prompt_text, '4:55 now.');
  assert.match(rest.cached_text, /^2:30 now\./);
  assert.equal(rest.looks_like, 'time_or_number');
  assert.equal((await get(alice, `/v1/requests/${same.id}`)).miss, null);
  const off = await complete(alice, RULES, { cache: { mode: 'off' } });
  assert.equal((await get(alice, `/v1/requests/${off.id}`)).miss, null);

  const without = await world(t, { keepExcerpts: false });
  const first = await without.complete(without.alice, RULES);
  assert.deepEqual((await without.get(without.alice, `/v1/requests/${first.id}`)).miss, {
    token: 0,
    reason: 'nothing_cached',
    common_text: null,
    prompt_text: null,
    cached_text: null,
    looks_like: null,
  });
});

test('deleting what is cached deletes what is kept of the texts of that tenant', async (t) => {
  const { app, alice, bob, admin, complete, get } = await world(t);
  const { id } = await complete(alice, RULES);
  const other = await complete(bob, RULES);
  await complete(alice, RULES);
  const textOf = async (asked: string) => (await get(admin, `/v1/requests/${asked}`)).miss.prompt_text;
  const saved = async () => (await get(alice, '/v1/cache/top')).data[0].text;
  assert.deepEqual([await textOf(id), await saved()], Array(2).fill(RULES.slice(0, 32)));
  await supertest(app).delete('/v1/cache').auth(alice, { type: 'bearer' }).expect(200);
  assert.deepEqual([await textOf(id), await saved()], [null, null]);
  assert.equal(await textOf(other.id), RULES.slice(0, 32));
});

test('the prefixes that spare most are told by the nodes of the tree, and add up to what was reused', async (t) => {
  const { backend, scheduler, alice, bob, admin, complete, get } = await world(t);
  for (const end of ['one', 'two', 'three', 'four']) await complete(alice, RULES.repeat(2) + end.repeat(20));
  await complete(bob, RULES);
  await scheduler.idle();
  backend.cache.dropWarm();
  await complete(alice, `${RULES.repeat(2)}${'four'.repeat(20)}five`);
  const { data } = await get(alice, '/v1/cache/top');
  const saved = data.reduce((sum: number, each: { tokens_saved: number }) => sum + each.tokens_saved, 0);
  const { cached_tokens: cached } = await get(admin, '/v1/cache/stats');
  assert.equal(saved, cached);
  const [first] = data;
  assert.deepEqual([first.start, first.hits, first.tokens_saved_error], [0, 4, 0]);
  assert(RULES.startsWith(first.text), first.text);
  assert.equal(first.tenant, 'alice');
  assert.deepEqual((await get(bob, '/v1/cache/top')).data, []);
  assert.deepEqual((await get(admin, '/v1/cache/top')).data, data);
  await get(alice, '/v1/cache/top?by=key', 400);
  assert.deepEqual((await get(alice, '/v1/cache/top?by=document')).data, []);
});

test('tokens that were computed again since they had been evicted are counted with their request', async (t) => {
  const hostBytes = 24 * TINY_CHUNK_BYTES;
  const { backend, alice, bob, admin, complete, get } = await world(t, { hostBytes, segmentShare: 0 });
  const prompt = 'x'.repeat(160);
  for (const text of [prompt, ...['a', 'b', 'c'].map((letter) => letter.repeat(160))]) {
    await complete(bob, text);
    backend.cache.dropWarm();
  }
  assert.equal((await get(admin, '/v1/cache/stats')).regret_tokens, 0);
  await complete(alice, prompt);
  assert.equal((await get(admin, '/v1/cache/stats')).regret_tokens, 0, 'another tenant had it');
  await complete(bob, prompt);
  const { regret_tokens: regret, by_tier: byTier } = await get(admin, '/v1/cache/stats');
  const { host, device, disk } = byTier;
  assert(regret > 0);
  assert.equal(regret, 16 * host.evicted.regretted_chunks);
  assert.deepEqual([device.regret_tokens, host.regret_tokens, disk.regret_tokens], [null, regret, 0]);
  const { data } = await get(bob, '/v1/requests');
  assert.equal(data[0].by_tier.host.regret_tokens, regret);
  assert(data[0].computed_tokens >= regret);
});

test('documents count what of them was reused and not recomputed', async (t) => {
  const { service, statistics, controls } = await testBackend(t);
  const app = createApp({ service, statistics, controls });
  const text = 'The lamp of the tower burns oil, and is lit at dusk by the keeper himself.';
  for (const content of ['Who?', 'Where is it?'])
    await supertest(app)
      .post('/v1/chat/completions')
      .send({
        model: service.model.id,
        messages: [{ role: 'user', content }],
        documents: [{ id: 'lamp', text }],
        cache: { mode: 'blend', recompute_ratio: 0 },
        max_tokens: 2,
      })
      .expect(200);
  const read = async (path: string) => (await supertest(app).get(path).expect(200)).body;
  const { blended_tokens: blended } = await read('/v1/cache/stats');
  assert(blended > 0);
  const [{ used_at: _, ...lamp }, ...more] = (await read('/v1/cache/top?by=document')).data;
  const exact = { tokens_saved: blended, tokens_saved_error: 0, hits: 1 };
  // It came with the request, and was not stored.
  assert.deepEqual([lamp, more], [{ tenant: 'anonymous', id: 'lamp', ...exact, text: null }, []]);
});
