import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import supertest from 'supertest';
import { Statistics } from '../../src/serving/statistics.js';
import { fakeApp } from '../support/fake-app.js';

const CHAT = { model: 'fake/model-1', messages: [{ role: 'user', content: 'one two three four' }] };
const GAUGES = {
  tiers: {
    device: { bytes: 100, logicalBytes: 250, capacityBytes: 1000, chunks: 3 },
    host: {
      bytes: 80,
      capacityBytes: 500,
      chunks: 2,
      classes: { segment: { bytes: 80, chunks: 2, shareBytes: 250 } },
    },
  },
  radixNodes: 5,
  cachedChunks: 7,
  activeSequences: 2,
  queuedRequests: 0,
  evictions: [{ tier: 'host', reason: 'capacity', count: 4 }],
};

suite('GET /v1/cache/stats', () => {
  test('before the first request counts are zero, the hit rate is null, unknown readings are null', async () => {
    const { app } = fakeApp();
    const { body } = await supertest(app).get('/v1/cache/stats').expect(200);
    const { since, ...rest } = body;
    assert.ok(Math.abs(Date.parse(since) - Date.now()) < 60_000);
    const tier = {
      cached_tokens: 0,
      blended_tokens: 0,
      bytes: null,
      logical_bytes: null,
      capacity_bytes: null,
      chunks: null,
      classes: null,
    };
    assert.deepEqual(rest, {
      requests: { completed: 0, aborted: 0, failed: 0, refused: 0 },
      prompt_tokens: 0,
      cached_tokens: 0,
      blended_tokens: 0,
      computed_tokens: 0,
      completion_tokens: 0,
      hit_rate: null,
      exact_hit_rate: null,
      by_tier: { device: tier, host: tier, disk: tier },
      disk: null,
      radix: { nodes: null, chunks: null },
    });
  });

  test('counts each request once, tokens by tier, and reads the tiers when asked', async () => {
    const { app, statistics } = fakeApp({ gauges: GAUGES });
    await supertest(app).post('/v1/chat/completions').send(CHAT).expect(200);
    await supertest(app)
      .post('/v1/chat/completions')
      .send({ ...CHAT, stream: true })
      .expect(200);
    await supertest(app).post('/v1/completions').send({ model: 'fake/model-1', prompt: '' }).expect(400);
    const { body } = await supertest(app).get('/v1/cache/stats').expect(200);
    assert.deepEqual(body, {
      since: statistics.since.toISOString(),
      requests: { completed: 2, aborted: 0, failed: 0, refused: 1 },
      prompt_tokens: 8,
      cached_tokens: 3,
      blended_tokens: 0,
      computed_tokens: 5,
      completion_tokens: 48,
      hit_rate: 0.375,
      exact_hit_rate: 0.375,
      by_tier: {
        device: {
          cached_tokens: 3,
          blended_tokens: 0,
          bytes: 100,
          logical_bytes: 250,
          capacity_bytes: 1000,
          chunks: 3,
          classes: null,
        },
        host: {
          cached_tokens: 0,
          blended_tokens: 0,
          bytes: 80,
          logical_bytes: null,
          capacity_bytes: 500,
          chunks: 2,
          classes: { segment: { bytes: 80, chunks: 2, share_bytes: 250 } },
        },
        disk: {
          cached_tokens: 0,
          blended_tokens: 0,
          bytes: null,
          logical_bytes: null,
          capacity_bytes: null,
          chunks: null,
          classes: null,
        },
      },
      disk: null,
      radix: { nodes: 5, chunks: 7 },
    });
  });
});

test('an aborted request counts the tokens that the service reports for it', () => {
  const statistics = new Statistics({ gauges: () => ({ tiers: {} }), now: () => new Date(0) });
  const usage = {
    promptTokens: 12,
    completionTokens: 1,
    cachedTokens: { device: 3, host: 1, disk: 2 },
    blendedTokens: { device: 0, host: 2, disk: 1 },
    computedTokens: 3,
  };
  const timings = { queueMs: 0, loadMs: 0, prefillMs: 1, blend: undefined, decodeMs: 1, ttftMs: 1 };
  statistics.record({
    endpoint: 'completions',
    outcome: 'aborted',
    report: { usage, timings, choices: 1 },
  });
  statistics.record({ endpoint: 'completions', outcome: 'aborted' });
  assert.equal(statistics.requests('completions', 'aborted'), 2);
  assert.equal(statistics.requests('chat.completions', 'aborted'), 0);
  assert.deepEqual(statistics.tokens, {
    prompt: 12,
    cached: { device: 3, host: 1, disk: 2 },
    blended: { device: 0, host: 2, disk: 1 },
    computed: 3,
    completion: 1,
  });
  assert.equal(statistics.hitRate, 9 / 12);
  assert.equal(statistics.exactHitRate, 6 / 12);
  assert.equal(statistics.since.getTime(), 0);
});

test('a blended answer is counted apart from exact reuse, and the parts add up to the prompt', async () => {
  const { app } = fakeApp();
  const ask = (question: string) =>
    supertest(app)
      .post('/v1/chat/completions')
      .send({
        ...CHAT,
        messages: [{ role: 'user', content: question }],
        documents: [{ text: 'a b c d e f g h' }],
      })
      .expect(200);
  await ask('Who?');
  await ask('Where?');
  await ask('Where?');
  const { body } = await supertest(app).get('/v1/cache/stats').expect(200);
  assert.equal(body.prompt_tokens, 27);
  assert.equal(body.cached_tokens, 8);
  assert.equal(body.blended_tokens, 6);
  assert.equal(body.computed_tokens, 13);
  assert.deepEqual([body.hit_rate, body.exact_hit_rate], [14 / 27, 8 / 27]);
  assert.equal(body.by_tier.host.blended_tokens, 6);
  const { text } = await supertest(app).get('/metrics').expect(200);
  for (const line of [
    'radixkv_prompt_tokens_total{source="device"} 8',
    'radixkv_prompt_tokens_total{source="blended"} 6',
    'radixkv_prompt_tokens_total{source="computed"} 13',
    'radixkv_blended_tokens_total{tier="device"} 0',
    'radixkv_blended_tokens_total{tier="host"} 6',
    'radixkv_blended_tokens_total{tier="disk"} 0',
  ]) {
    assert.ok(text.split('\n').includes(line), line);
  }
});

suite('GET /metrics', () => {
  test('has the same facts in the words of Prometheus, however often it is scraped', async () => {
    const { app } = fakeApp({ gauges: GAUGES });
    await supertest(app).post('/v1/chat/completions').send(CHAT).expect(200);
    await supertest(app).post('/v1/chat/completions').send(CHAT).expect(200);
    await supertest(app).get('/metrics').expect(200);
    const { text } = await supertest(app)
      .get('/metrics')
      .expect(200)
      .expect('content-type', /version=0\.0\.4/);
    for (const line of [
      'radixkv_requests_total{endpoint="chat.completions",outcome="completed"} 2',
      'radixkv_requests_total{endpoint="completions",outcome="failed"} 0',
      'radixkv_prompt_tokens_total{source="device"} 3',
      'radixkv_prompt_tokens_total{source="host"} 0',
      'radixkv_prompt_tokens_total{source="computed"} 5',
      'radixkv_completion_tokens_total 48',
      'radixkv_evictions_total{tier="host",reason="capacity"} 4',
      'radixkv_tier_bytes{tier="device"} 100',
      'radixkv_tier_bytes{tier="host"} 80',
      'radixkv_tier_class_bytes{tier="host",class="segment"} 80',
      'radixkv_tier_capacity_bytes{tier="host"} 500',
      'radixkv_active_sequences 2',
      'radixkv_queued_requests 0',
      'radixkv_radix_nodes 5',
      'radixkv_cached_chunks 7',
      'radixkv_ttft_seconds_count 2',
      'radixkv_ttft_seconds_sum 0.042',
      'radixkv_queue_seconds_sum 0.002',
      'radixkv_prefill_seconds_sum 0.04',
      'radixkv_tpot_seconds_count 2',
    ]) {
      assert.ok(text.split('\n').includes(line), line);
    }
    assert.match(text, /^process_cpu_seconds_total /m);
    const tpot = /^radixkv_tpot_seconds_sum (.*)$/m.exec(text)![1];
    assert.ok(Math.abs(Number(tpot) - (2 * 0.1) / 23) < 1e-9);
  });

  test('a reading that is not known has no sample', async () => {
    const { app } = fakeApp();
    const { text } = await supertest(app).get('/metrics').expect(200);
    assert.doesNotMatch(text, /^radixkv_(tier_bytes|radix_nodes|active_sequences)[ {]/m);
  });
});
