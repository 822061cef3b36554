import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PendingCounts } from '../../src/history/pending-counts.js';
import { counted, summed } from './counting.js';

const groups = (tenant: string) => ({ tenant, model: 'm', route: 'r' });
const of = (pending: PendingCounts, dimension: string) =>
  pending.rows().filter((row) => row.dimension === dimension);

test('requests of one bucket and group are one row, and every dimension has them all', () => {
  const pending = new PendingCounts(10);
  for (const [atMs, tenant] of [
    [10, 'a'],
    [19, 'a'],
    [15, 'b'],
    [20, 'a'],
  ] as const)
    pending.add(atMs, groups(tenant), counted());
  assert.equal(pending.requests, 4);
  assert.deepEqual(
    of(pending, 'tenant').map(({ atMs, name, counts }) => [atMs, name, counts.completed]),
    [
      [10, 'a', 2],
      [10, 'b', 1],
      [20, 'a', 1],
    ],
  );
  for (const dimension of ['total', 'tenant', 'model', 'route']) {
    const rows = of(pending, dimension);
    assert.deepEqual(summed(rows.map(({ counts }) => counts)), summed(Array(4).fill(counted())));
  }
  pending.clear();
  assert.deepEqual([pending.rows(), pending.requests], [[], 0]);
});

test('when there are too many groups new ones are told apart no more, and nothing is lost', () => {
  const pending = new PendingCounts(10, 10);
  for (let tenant = 0; tenant < 100; tenant++) {
    assert.equal(pending.add(0, groups(`tenant ${tenant}`), counted()), 0);
  }
  const rows = of(pending, 'tenant');
  assert.equal(pending.rows().length, 11);
  assert.deepEqual([rows.at(-1)!.name, rows.at(-1)!.counts.completed], ['other', 93]);
});

test('when there are too many buckets the oldest is given up, and its requests are told', () => {
  const pending = new PendingCounts(10, 8);
  const lost = [0, 0, 10, 20, 30].map((atMs) => pending.add(atMs, groups('a'), counted()));
  assert.deepEqual(lost, [0, 0, 0, 2, 1]);
  assert.deepEqual(
    of(pending, 'total').map(({ atMs }) => atMs),
    [20, 30],
  );
  assert.equal(pending.requests, 2);
});
