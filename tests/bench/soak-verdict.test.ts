import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  hitRate,
  judge,
  type SoakPause,
  type SoakRecord,
  type SoakSample,
  type Verdict,
  verdictTable,
} from '../../bench/soak-verdict.js';

const MIB = 1024 ** 2;
const TOLERANCE = { rssShare: 0.1, rssBytes: 10 * MIB, hitRateFall: 0.1 };

interface Changes {
  readonly sample?: (second: number) => Partial<SoakSample>;
  readonly pause?: (index: number) => Partial<SoakPause>;
  readonly record?: Partial<SoakRecord>;
}

/** 100 seconds in which nothing is wrong: 100 tokens a second, of which 60 are cached. */
function record({ sample, pause, record: rest }: Changes = {}): SoakRecord {
  const samples = Array.from({ length: 101 }, (_, second) => ({
    seconds: second,
    budgets: { host: { bytes: 80, capacityBytes: 100 }, disk: { bytes: 100, capacityBytes: 100 } },
    rssBytes: 200 * MIB,
    promptTokens: 100 * second,
    cachedTokens: { host: 20 * second, disk: 40 * second },
    ...sample?.(second),
  }));
  const pauses = Array.from({ length: 10 }, (_, index) => ({
    seconds: 10 * (index + 1),
    activeRuns: 0,
    leases: 0,
    heapBytes: 30 * MIB,
    ...pause?.(index),
  }));
  return { seconds: 100, samples, pauses, answers: 5, aborted: 1, compared: 2, wrong: 0, ...rest };
}

const failures = (changes?: Changes): string[] =>
  judge(record(changes), TOLERANCE)
    .filter(({ holds }) => !holds)
    .map(({ what }) => what);

test('a soak in which nothing is wrong passes', () => {
  assert.deepEqual(failures(), []);
});

test('one sample above one budget fails the soak', () => {
  const full = { bytes: 100, capacityBytes: 100 };
  const over = (second: number): Partial<SoakSample> =>
    second === 50 ? { budgets: { host: full, disk: { ...full, bytes: 101 } } } : {};
  assert.deepEqual(failures({ sample: over }), ['budget of disk']);
});

test('a lease or an active run that is left in a pause fails the soak', () => {
  assert.deepEqual(failures({ pause: (index) => (index === 3 ? { leases: 1 } : {}) }), ['no leaked lease']);
  assert.deepEqual(failures({ pause: (index) => (index === 9 ? { activeRuns: 1 } : {}) }), [
    'no leaked lease',
  ]);
});

test('memory may grow in the warm-up, and by the tolerance afterwards', () => {
  const grown = (at: number, bytes: number) => ({
    sample: (second: number) => (second < at ? {} : { rssBytes: 200 * MIB + bytes }),
  });
  assert.deepEqual(failures(grown(15, 500 * MIB)), []);
  assert.deepEqual(failures(grown(60, 29 * MIB)), []);
  assert.deepEqual(failures(grown(60, 31 * MIB)), ['resident memory']);
});

test('a heap that grows from pause to pause fails the soak', () => {
  const failed = failures({ pause: (index) => ({ heapBytes: (30 + 2 * index) * MIB }) });
  assert.deepEqual(failed, ['collected heap']);
});

/** 40 tokens a second from disk, and `later` a second from the sixtieth on. */
const fromDisk = (later: number): Changes => ({
  sample: (second) => ({
    cachedTokens: {
      host: 20 * second,
      disk: second <= 60 ? 40 * second : 2400 + later * (second - 60),
    },
  }),
});

test('a hit rate that falls by more than the tolerance fails the soak', () => {
  assert.deepEqual(failures(fromDisk(35)), []);
  assert.deepEqual(failures(fromDisk(33)), ['steady hit rate']);
});

test('a soak without hits in a tier, or without a hit at all, proves nothing and fails', () => {
  const withoutDisk = failures({ sample: (second) => ({ cachedTokens: { host: second, disk: 0 } }) });
  assert.deepEqual(withoutDisk, ['hits in every tier']);
  const without = failures({ sample: () => ({ cachedTokens: { host: 0, disk: 0 } }) });
  assert.deepEqual(without, ['steady hit rate', 'hits in every tier']);
});

test('a wrong answer fails the soak, and so does comparing none', () => {
  assert.deepEqual(failures({ record: { wrong: 1 } }), ['no wrong answer']);
  assert.deepEqual(failures({ record: { compared: 0 } }), ['no wrong answer']);
});

test('the hit rate of a part of the time counts the tokens of that part only', () => {
  assert.equal(hitRate(record(fromDisk(0)), 0.6, 1), 0.2);
  assert.equal(hitRate(record(fromDisk(0)), 0, 0.6), 0.6);
});

test('the table has a line for each verdict', () => {
  const verdicts: Verdict[] = [
    { what: 'a', holds: true, detail: 'fine' },
    { what: 'b', holds: false, detail: 'not' },
  ];
  assert.deepEqual(verdictTable(verdicts).split('\n').slice(2), [
    '| a | holds | fine |',
    '| b | FAILS | not |',
  ]);
});
