import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytes, count, percent, rate, seconds } from '../../dashboard/numbers.js';
import { freshRates, hitShares, meanOf, parseMetrics } from '../../dashboard/readings.js';

const NO_TOKENS = { cached_tokens: 0, blended_tokens: 0 };

const STATS = {
  since: '2026-11-25T04:00:00.000Z',
  requests: { completed: 3, aborted: 1, failed: 0, refused: 2 },
  prompt_tokens: 1300,
  computed_tokens: 600,
  completion_tokens: 90,
  hit_rate: 700 / 1300,
  saved_prefill_seconds: null,
  by_tier: {
    device: { ...NO_TOKENS, cached_tokens: 512 },
    host: { cached_tokens: 0, blended_tokens: 124 },
    disk: { ...NO_TOKENS, cached_tokens: 64 },
    remote: NO_TOKENS,
  },
};

test('the shares of the tiers add up to the hit rate, and are not known without prompts', () => {
  const { device, host, disk } = hitShares(STATS);
  assert(Math.abs(device! + host! + disk! - STATS.hit_rate) < 1e-12);
  assert.equal(host, 124 / 1300);
  const nothing = {
    prompt_tokens: 0,
    by_tier: { device: NO_TOKENS, host: NO_TOKENS, disk: NO_TOKENS, remote: NO_TOKENS },
  };
  assert.deepEqual(hitShares(nothing), { device: null, host: null, disk: null, remote: null });
});

test('rates are those of the time since the window began, all requests counted', () => {
  const nowMs = Date.parse(STATS.since) + 60_000;
  assert.deepEqual(freshRates(STATS, nowMs), {
    promptTokensPerS: 1300 / 60,
    completionTokensPerS: 1.5,
    requestsPerS: 0.1,
  });
  assert.equal(freshRates(STATS, nowMs - 60_000).completionTokensPerS, 90, 'never by less than a second');
});

test('samples of metrics are read by name and labels, and the mean of a histogram is its sum by its count', () => {
  const samples = parseMetrics(
    [
      '# TYPE radixkv_ttft_seconds histogram',
      'radixkv_ttft_seconds_sum{hit="none"} 3',
      'radixkv_ttft_seconds_sum{hit="most"} 0.5',
      'radixkv_ttft_seconds_count{hit="none"} 1',
      'radixkv_ttft_seconds_count{hit="most"} 1',
      'radixkv_load_seconds_sum 4',
      'radixkv_load_seconds_count 2',
      'radixkv_tier_bytes{tier="host"} 4096',
      'process_cpu_seconds_total 1',
      '',
    ].join('\n'),
  );
  assert.deepEqual([...samples.keys()].length, 7);
  assert.equal(samples.get('radixkv_tier_bytes{tier="host"}'), 4096);
  assert.equal(meanOf(samples, 'radixkv_ttft_seconds'), 1.75);
  assert.equal(meanOf(samples, 'radixkv_load_seconds'), 2);
  assert.equal(meanOf(samples, 'radixkv_queue_seconds'), undefined);
});

test('numbers are written for people, and what is not known is a dash', () => {
  assert.deepEqual([percent(0.5381), percent(0), percent(null)], ['53.8 %', '0.0 %', '–']);
  assert.deepEqual([count(12_400), count(undefined), count(Number.NaN)], ['12,400', '–', '–']);
  assert.deepEqual([rate(0), rate(3.42), rate(99.96), rate(1234.5)], ['0', '3.4', '100', '1,235']);
  assert.deepEqual(
    [bytes(0), bytes(640), bytes(1.5 * 1024 ** 3), bytes(2 ** 60)],
    ['0 B', '640 B', '1.5 GiB', '1048576 TiB'],
  );
  assert.deepEqual([0, 0.34, 5.041, 100, 720, 11_520].map(seconds), [
    '0 ms',
    '340 ms',
    '5.04 s',
    '2 min',
    '12 min',
    '3.2 h',
  ]);
});
