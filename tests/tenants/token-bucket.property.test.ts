/** The bucket against its definition: no window of time gives more than a minute's worth and what flowed in. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TokenBucket } from '../../src/tenants/token-bucket.js';

const MINUTE_MS = 60_000;

const asks = fc.array(
  fc.record({ pauseMs: fc.integer({ min: 0, max: 40_000 }), amount: fc.integer({ min: 1, max: 12 }) }),
  { maxLength: 40 },
);

test('over any time no more is taken than a full bucket and what has flowed in since', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 10 }), asks, (perMinute, steps) => {
      const bucket = new TokenBucket(perMinute, 0);
      const taken: { atMs: number; amount: number }[] = [];
      let nowMs = 0;
      for (const { pauseMs, amount } of steps) {
        nowMs += pauseMs;
        if (bucket.take(amount, nowMs) === 'taken') taken.push({ atMs: nowMs, amount });
        for (let from = 0; from < taken.length; from++) {
          const sum = taken.slice(from).reduce((total, each) => total + each.amount, 0);
          const most = perMinute + ((nowMs - taken[from]!.atMs) * perMinute) / MINUTE_MS;
          assert(sum <= most + 1e-6, `${sum} of ${most}`);
        }
        assert(bucket.remaining(nowMs) >= 0 && bucket.remaining(nowMs) <= perMinute);
      }
    }),
  );
});

test('who waits as long as told gets it, who waits less does not', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 10 }), asks, (perMinute, steps) => {
      const bucket = new TokenBucket(perMinute, 0);
      let nowMs = 0;
      for (const { pauseMs, amount } of steps) {
        nowMs += pauseMs;
        const waitMs = bucket.take(amount, nowMs);
        if (waitMs === 'taken') continue;
        assert.equal(waitMs === Number.POSITIVE_INFINITY, amount > perMinute);
        if (amount > perMinute) continue;
        assert.notEqual(bucket.take(amount, nowMs + waitMs - 1), 'taken');
        nowMs += waitMs + 1e-3;
        assert.equal(bucket.take(amount, nowMs), 'taken');
      }
    }),
  );
});

test('a bucket is full again when it says so, and not before', () => {
  const bucket = new TokenBucket(60, 0);
  bucket.take(30, 0);
  assert.equal(bucket.fullInMs(0), 30_000);
  assert.equal(bucket.remaining(29_000), 59);
  assert.equal(bucket.remaining(30_000), 60);
  assert.equal(bucket.remaining(600_000), 60);
});

test('another limit keeps what was used', () => {
  const bucket = new TokenBucket(60, 0);
  bucket.take(50, 0);
  assert.equal(bucket.resized(100, 0).remaining(0), 50);
  assert.equal(bucket.resized(20, 0).remaining(0), 0);
});
