import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Express } from 'express';
import supertest from 'supertest';
import { createApp } from '../../src/api/app.js';
import { exactHitRateOf, hitRateOf } from '../../src/serving/counts.js';
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
  history: { faults: { writes_failed: 1 }, unwrittenRequests: 2, lostRequests: 3 },
  evictions: [{ tier: 'host', reason: 'capacity', count: 4 }],
  lives: {
    host: {
      ageS: { bounds: [1, 5], counts: [1, 1, 1], sum: 12 },
      uses: { bounds: [0, 2], counts: [2, 0, 1], sum: 7 },
      regretS: { bounds: [1], counts: [0, 0], sum: 0 },
    },
  },
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
      regret_tokens: 0,
      bytes: null,
      logical_bytes: null,
      capacity_bytes: null,
      chunks: null,
      classes: null,
      evicted: null,
    };
    const none = { requests: 0, mean: null, p50: null, p95: null };
    assert.deepEqual(rest, {
      requests: { completed: 0, aborted: 0, failed: 0, refused: 0 },
      prompt_tokens: 0,
      cached_tokens: 0,
      blended_tokens: 0,
      computed_tokens: 0,
      completion_tokens: 0,
      hit_rate: null,
      exact_hit_rate: null,
      saved_prefill_seconds: 0,
      unpriced_tokens: 0,
      regret_tokens: 0,
      ttft_ms: { none, partial: none, most: none },
      by_tier: {
        device: { ...tier, regret_tokens: null },
        host: tier,
        disk: tier,
        remote: { ...tier, regret_tokens: null },
      },
      disk: null,
      remote: null,
      bus: null,
      radix: { nodes: null, chunks: null },
      history: null,
    });
  });

  test('counts each request once, tokens by tier, and reads the tiers when asked', async () => {
    const { app, statistics } = fakeApp({ gauges: GAUGES, prefillTokensPerS: 40 });
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
      saved_prefill_seconds: 0.075,
      unpriced_tokens: 0,
      regret_tokens: 0,
      ttft_ms: {
        none: { requests: 1, mean: 21, p50: 18, p95: 24 },
        partial: { requests: 0, mean: null, p50: null, p95: null },
        most: { requests: 1, mean: 21, p50: 18, p95: 24 },
      },
      by_tier: {
        device: {
          cached_tokens: 3,
          blended_tokens: 0,
          regret_tokens: null,
          bytes: 100,
          logical_bytes: 250,
          capacity_bytes: 1000,
          chunks: 3,
          classes: null,
          evicted: null,
        },
        host: {
          cached_tokens: 0,
          blended_tokens: 0,
          regret_tokens: 0,
          bytes: 80,
          logical_bytes: null,
          capacity_bytes: 500,
          chunks: 2,
          classes: { segment: { bytes: 80, chunks: 2, share_bytes: 250 } },
          evicted: {
            chunks: 3,
            age_seconds: { p50: 3, p90: 5 },
            uses: { p50: 0, p90: 2 },
            regretted_chunks: 0,
            regretted_after_seconds: { p50: null, p90: null },
          },
        },
        disk: {
          cached_tokens: 0,
          blended_tokens: 0,
          regret_tokens: 0,
          bytes: null,
          logical_bytes: null,
          capacity_bytes: null,
          chunks: null,
          classes: null,
          evicted: null,
        },
        remote: {
          cached_tokens: 0,
          blended_tokens: 0,
          regret_tokens: null,
          evicted: null,
          bytes: null,
          logical_bytes: null,
          capacity_bytes: null,
          chunks: null,
          classes: null,
        },
      },
      disk: null,
      remote: null,
      bus: null,
      radix: { nodes: 5, chunks: 7 },
      history: { faults: { writes_failed: 1 }, unwritten_requests: 2, lost_requests: 3 },
    });
  });
});

test('what the remote tier did is in the statistics and in the metrics', async () => {
  const { app, statistics } = fakeApp({
    gauges: {
      tiers: {},
      remote: {
        state: 'open',
        reason: 'timeout',
        trips: 3,
        isWritingPaused: true,
        queuedChunks: 4,
        readBytes: 5,
        writtenBytes: 6,
        requests: { get: { ok: 7, failed: 8 } },
        errors: { timeout: 9 },
        reads: { hit: 10 },
        writes: { stored: 11 },
        skippedTokens: 12,
        prefillTokensPerS: 13,
        loadBytesPerS: 14,
      },
    },
  });
  const { body } = await supertest(app).get('/v1/cache/stats').expect(200);
  assert.deepEqual(body.remote, {
    state: 'open',
    reason: 'timeout',
    trips: 3,
    writing_paused: true,
    read_bytes: 5,
    written_bytes: 6,
    queued_chunks: 4,
    requests: { get: { ok: 7, failed: 8 } },
    errors: { timeout: 9 },
    reads: { hit: 10 },
    writes: { stored: 11 },
    skipped_tokens: 12,
    prefill_tokens_per_second: 13,
    load_bytes_per_second: 14,
  });
  statistics.events.emit('remote', 'get', 20);
  const { text } = await supertest(app).get('/metrics').expect(200);
  for (const line of [
    'radixkv_remote_state 2',
    'radixkv_remote_breaker_trips_total 3',
    'radixkv_remote_queue_chunks 4',
    'radixkv_remote_bytes_total{direction="read"} 5',
    'radixkv_remote_bytes_total{direction="written"} 6',
    'radixkv_remote_requests_total{operation="get",outcome="ok"} 7',
    'radixkv_remote_requests_total{operation="get",outcome="failed"} 8',
    'radixkv_remote_errors_total{kind="timeout"} 9',
    'radixkv_remote_reads_total{outcome="hit"} 10',
    'radixkv_remote_writes_total{outcome="stored"} 11',
    'radixkv_remote_skipped_tokens_total 12',
    'radixkv_remote_load_bytes_per_second 14',
    'radixkv_remote_seconds_sum{operation="get"} 0.02',
  ]) {
    assert.ok(text.split('\n').includes(line), line);
  }
});

test('an aborted request counts the tokens that the service reports for it', () => {
  const statistics = new Statistics({ gauges: () => ({ tiers: {} }), now: () => new Date(0) });
  const usage = {
    promptTokens: 12,
    completionTokens: 1,
    cachedTokens: { device: 3, host: 1, disk: 2, remote: 0 },
    blendedTokens: { device: 0, host: 2, disk: 1, remote: 0 },
    computedTokens: 3,
  };
  const timings = { queueMs: 0, loadMs: 0, prefillMs: 1, blend: undefined, decodeMs: 1, ttftMs: 1 };
  const request = {
    id: 'cmpl-1',
    requestId: 'req_1',
    endpoint: 'completions',
    tenant: 'anonymous',
    owner: '',
    model: 'm',
    outcome: 'aborted',
    wallMs: 1,
  } as const;
  statistics.record({
    ...request,
    report: { usage, timings, choices: 1 },
  });
  statistics.record(request);
  assert.equal(statistics.requests('completions', 'aborted'), 2);
  assert.equal(statistics.requests('chat.completions', 'aborted'), 0);
  assert.deepEqual(statistics.tokens, {
    prompt: 12,
    cached: { device: 3, host: 1, disk: 2, remote: 0 },
    blended: { device: 0, host: 2, disk: 1, remote: 0 },
    computed: 3,
    completion: 1,
  });
  assert.equal(hitRateOf(statistics.counts), 9 / 12);
  assert.equal(exactHitRateOf(statistics.counts), 6 / 12);
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

function chat(app: Express, key?: string) {
  const request = supertest(app).post('/v1/chat/completions').send(CHAT);
  return (key === undefined ? request : request.auth(key, { type: 'bearer' })).expect(200);
}

suite('GET /v1/cache/stats of a window', () => {
  test('is since the start of the data unless one is named, and says since when', async () => {
    const { app, clock } = fakeApp();
    const begin = clock.nowMs;
    await chat(app);
    clock.nowMs += 3_600_000;
    await chat(app);
    const read = async (query: string) => {
      const { body } = await supertest(app).get(`/v1/cache/stats?${query}`).expect(200);
      return [body.window, body.requests.completed, Date.parse(body.since) - begin];
    };
    assert.deepEqual(await read('group_by=model'), ['all', 2, 0]);
    assert.deepEqual(await read('window=all'), ['all', 2, 0]);
    const [window, completed, sinceMs] = await read('window=5m');
    assert.deepEqual([window, completed], ['5m', 1]);
    assert(Number(sinceMs) <= 3_300_000 && Number(sinceMs) > 3_290_000, String(sinceMs));
  });

  test('has each group once, tenants by a short id and never by their key', async () => {
    const { app, statistics } = fakeApp({ prefillTokensPerS: 100 });
    for (const key of [undefined, 'sk-alice', 'sk-alice', 'sk-bob']) await chat(app, key);
    await supertest(app).post('/v1/completions').auth('sk-bob', { type: 'bearer' }).send({}).expect(400);
    const read = async (groupBy: string) => {
      const { body, text } = await supertest(app).get(`/v1/cache/stats?group_by=${groupBy}`).expect(200);
      assert.doesNotMatch(text, /alice|bob/);
      assert.equal(body.group_by, groupBy);
      assert.equal(body.prompt_tokens, statistics.tokens.prompt);
      return body.groups.map((group: { group: string; requests: object; prompt_tokens: number }) => [
        group.group,
        ...Object.values(group.requests),
        group.prompt_tokens,
      ]);
    };
    assert.deepEqual(await read('tenant'), [
      ['099295a3784e1bd3', 2, 0, 0, 0, 8],
      ['36c76b48bb2ee1d9', 1, 0, 0, 1, 4],
      ['anonymous', 1, 0, 0, 0, 4],
    ]);
    assert.deepEqual(await read('model'), [['fake/model-1', 4, 0, 0, 1, 16]]);
    assert.deepEqual(await read('route'), [
      ['chat.completions', 4, 0, 0, 0, 16],
      ['completions', 0, 0, 0, 1, 0],
    ]);
    const { body } = await supertest(app).get('/v1/cache/stats?window=1m&group_by=tenant').expect(200);
    const [alice, bob] = body.groups;
    assert.deepEqual(alice.by_tier.device, { cached_tokens: 3, blended_tokens: 0, regret_tokens: null });
    assert.deepEqual([alice.hit_rate, alice.saved_prefill_seconds, alice.unpriced_tokens], [3 / 8, 0.03, 0]);
    assert.deepEqual([bob.hit_rate, bob.saved_prefill_seconds], [0, 0]);
  });

  test('does not know what was saved when the speed of prefill is not known', async () => {
    const { app } = fakeApp();
    await chat(app);
    const read = async () => (await supertest(app).get('/v1/cache/stats?window=1m').expect(200)).body;
    assert.equal((await read()).saved_prefill_seconds, 0, 'nothing was reused');
    await chat(app);
    const { saved_prefill_seconds: saved, unpriced_tokens: unpriced } = await read();
    assert.deepEqual([saved, unpriced], [null, 3]);
  });

  test('has a history in steps, with those in which there was nothing', async () => {
    const { app, clock } = fakeApp({ nowMs: Date.parse('2026-11-25T03:59:10Z') });
    clock.nowMs += 75_000;
    await chat(app);
    clock.nowMs += 120_000;
    await chat(app);
    const read = async (query: string) =>
      (await supertest(app).get(`/v1/cache/stats/history?${query}`).expect(200)).body;
    const from = '2026-11-25T03:59:00Z';
    const { points, ...rest } = await read(`from=${from}&to=2026-11-25T04:02:00Z&step=1m`);
    assert.deepEqual(rest, {
      from: '2026-11-25T03:59:00.000Z',
      to: '2026-11-25T04:02:00.000Z',
      step_seconds: 60,
    });
    assert.deepEqual(
      points.map((point: Record<string, unknown>) => [point.start, point.prompt_tokens, point.hit_rate]),
      [
        ['2026-11-25T03:59:00.000Z', 0, null],
        ['2026-11-25T04:00:00.000Z', 4, 0],
        ['2026-11-25T04:01:00.000Z', 0, null],
      ],
    );
    const seconds = Date.parse(from) / 1000;
    assert.deepEqual((await read(`from=${seconds}&step=60`)).points.slice(0, 3), points);
  });

  test('refuses what it does not know, by its name', async () => {
    const { app } = fakeApp();
    const cases = [
      ['?window=2m', 'invalid_value', 'window'],
      ['?window=', 'invalid_value', 'window'],
      ['?window=1m&window=5m', 'invalid_value', 'window'],
      ['?group_by=key', 'invalid_value', 'group_by'],
      ['?windows=1m', 'unsupported_field', 'windows'],
      ['/history?from=yesterday', 'invalid_value', 'from'],
      ['/history?to=2026-11-25', 'invalid_value', 'to'],
      ['/history?from=10&to=10', 'invalid_value', 'from'],
      ['/history?step=0', 'invalid_value', 'step'],
      ['/history?step=1w', 'invalid_value', 'step'],
      ['/history?step=91d', 'invalid_value', 'step'],
      ['/history?step=15s', 'invalid_value', 'step'],
      ['/history?group_by=tenant', 'unsupported_field', 'group_by'],
    ] as const;
    for (const [query, code, param] of cases) {
      const { body } = await supertest(app).get(`/v1/cache/stats${query}`).expect(400);
      assert.deepEqual([body.error.code, body.error.param], [code, param], query);
    }
    const { service, statistics } = fakeApp();
    const bare = createApp({ service, statistics });
    await supertest(bare).get('/v1/cache/stats').expect(200);
    await supertest(bare).get('/v1/cache/stats?window=all').expect(400);
    await supertest(bare).get('/v1/cache/stats/history').expect(404);
  });

  test('is not there while its database is not, and everything else is', async () => {
    const { app, history } = fakeApp();
    history.close();
    await chat(app);
    await supertest(app).get('/v1/cache/stats').expect(200);
    for (const path of ['/v1/cache/stats?window=all', '/v1/cache/stats/history']) {
      const { body, headers } = await supertest(app).get(path).expect(503);
      assert.deepEqual([body.error.code, headers['retry-after']], ['statistics_unavailable', '5']);
    }
    assert.equal(history.reading().lostRequests, 1);
  });
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
      'radixkv_saved_prefill_seconds_total 0',
      'radixkv_unpriced_tokens_total 3',
      'radixkv_history_faults_total{fault="writes_failed"} 1',
      'radixkv_history_lost_requests_total 3',
      'radixkv_evictions_total{tier="host",reason="capacity"} 4',
      'radixkv_tier_bytes{tier="device"} 100',
      'radixkv_tier_bytes{tier="host"} 80',
      'radixkv_tier_class_bytes{tier="host",class="segment"} 80',
      'radixkv_tier_capacity_bytes{tier="host"} 500',
      'radixkv_active_sequences 2',
      'radixkv_queued_requests 0',
      'radixkv_radix_nodes 5',
      'radixkv_cached_chunks 7',
      'radixkv_ttft_seconds_bucket{le="0.01",hit="none"} 0',
      'radixkv_ttft_seconds_bucket{le="0.025",hit="none"} 1',
      'radixkv_ttft_seconds_bucket{le="+Inf",hit="none"} 1',
      'radixkv_ttft_seconds_count{hit="most"} 1',
      'radixkv_ttft_seconds_sum{hit="most"} 0.021',
      'radixkv_regret_tokens_total{tier="host"} 0',
      'radixkv_evicted_age_seconds_bucket{le="5",tier="host"} 2',
      'radixkv_evicted_age_seconds_bucket{le="+Inf",tier="host"} 3',
      'radixkv_evicted_uses_sum{tier="host"} 7',
      'radixkv_regret_seconds_count{tier="host"} 0',
      'radixkv_queue_seconds_sum 0.002',
      'radixkv_prefill_seconds_sum 0.04',
      'radixkv_tpot_seconds_count{hit="most"} 1',
    ]) {
      assert.ok(text.split('\n').includes(line), line);
    }
    assert.match(text, /^process_cpu_seconds_total /m);
    const tpot = /^radixkv_tpot_seconds_sum\{hit="none"\} (.*)$/m.exec(text)![1];
    assert.ok(Math.abs(Number(tpot) - 0.1 / 23) < 1e-9);
  });

  test('a reading that is not known has no sample', async () => {
    const { app } = fakeApp();
    const { text } = await supertest(app).get('/metrics').expect(200);
    assert.doesNotMatch(text, /^radixkv_(tier_bytes|radix_nodes|active_sequences)[ {]/m);
  });
});
