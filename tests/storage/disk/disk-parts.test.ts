/** The small parts of the disk tier: its line, its pauses, its measure, its order, its budget, its schema. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import { DIRECTORY_BYTES, DiskError } from '#storage';
import type { LoadedChunk } from '../../../storage/disk/backend.js';
import { Backoff } from '../../../storage/disk/backoff.js';
import { chargedBytes, DiskBudget } from '../../../storage/disk/disk-budget.js';
import { Gate } from '../../../storage/disk/gate.js';
import { MIGRATIONS, migrate } from '../../../storage/disk/migrations.js';
import { packChunks, unpackChunks } from '../../../storage/disk/packed-chunks.js';
import { ParentsFirst } from '../../../storage/disk/parents-first.js';
import { SpeedMeter } from '../../../storage/disk/speed-meter.js';
import { ManualClock } from '../../support/manual-clock.js';
import { chainOf, chunkAfter } from './chunks.js';

suite('a gate', () => {
  test('lets so many tasks run at once, and all in the end, in order, even after failures', async () => {
    const gate = new Gate(2);
    let running = 0;
    let most = 0;
    const begun: number[] = [];
    const tasks = [0, 1, 2, 3, 4].map((n) =>
      gate.run(async () => {
        begun.push(n);
        most = Math.max(most, ++running);
        await nextTurn();
        running--;
        if (n === 1) throw new Error('a task that fails');
      }),
    );
    await Promise.allSettled(tasks);
    assert.deepEqual([begun, most], [[0, 1, 2, 3, 4], 2]);
  });
});

suite('a backoff', () => {
  test('pauses for twice as long after each failure, to a minute, until something succeeds', () => {
    const clock = new ManualClock();
    const backoff = new Backoff(clock);
    assert.equal(backoff.isPaused, false);
    for (const pauseMs of [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]) {
      backoff.failed();
      clock.nowMs += pauseMs - 1;
      assert.equal(backoff.isPaused, true);
      clock.nowMs += 1;
      assert.equal(backoff.isPaused, false);
    }
    backoff.succeeded();
    backoff.failed();
    clock.nowMs += 1000;
    assert.equal(backoff.isPaused, false);
  });

  test('counts failures at the same time as one', () => {
    const clock = new ManualClock();
    const backoff = new Backoff(clock);
    for (let i = 0; i < 10; i++) backoff.failed();
    clock.nowMs += 1000;
    assert.equal(backoff.isPaused, false);
  });
});

suite('a speed meter', () => {
  test('takes bytes over the time in which something ran, not the time between', async () => {
    let nowMs = 0;
    const meter = new SpeedMeter(() => nowMs);
    assert.equal(meter.bytesPerSecond, undefined);
    const transfer = (ms: number) => async () => {
      nowMs += ms;
      return 1000;
    };
    await meter.measure(transfer(10), (bytes) => bytes);
    nowMs += 5000;
    await meter.measure(transfer(10), (bytes) => bytes);
    assert(Math.abs(meter.bytesPerSecond! - 100_000) < 1);
  });

  test('counts transfers side by side once, and forgets what was long ago', async () => {
    let nowMs = 0;
    const meter = new SpeedMeter(() => nowMs);
    const ends: (() => void)[] = [];
    const waiting = () => new Promise<void>((end) => ends.push(end));
    const both = [0, 1].map(() => meter.measure(waiting, () => 500));
    nowMs += 10;
    for (const end of ends) end();
    await Promise.all(both);
    assert(Math.abs(meter.bytesPerSecond! - 100_000) < 1);
    const large = async (): Promise<void> => {
      nowMs += 1000;
    };
    for (let i = 0; i < 10; i++) await meter.measure(large, () => 64 << 20);
    assert(Math.abs(meter.bytesPerSecond! / (64 << 20) - 1) < 1e-4);
  });
});

test('chunks in any order come out after their parents, each once, and orphans are left over', () => {
  const root = chunkAfter(undefined, 0);
  const left = chunkAfter(root.key, 1);
  const orphan = chunkAfter(chunkAfter(undefined, 9).key, 1);
  const all = [
    root,
    left,
    chunkAfter(root.key, 2),
    chunkAfter(left.key, 3),
    orphan,
    chunkAfter(orphan.key, 4),
  ];
  fc.assert(
    fc.property(fc.shuffledSubarray(all, { minLength: all.length }), (shuffled) => {
      const order = new ParentsFirst<(typeof all)[number]>();
      const out = shuffled.flatMap((chunk) => order.pass(chunk));
      assert.deepEqual(new Set(out), new Set(all.slice(0, 4)));
      assert.equal(out.length, 4);
      for (const [i, { parent }] of out.entries())
        assert(parent === undefined || out.slice(0, i).some(({ key }) => key === parent));
      assert.deepEqual(new Set(order.leftOver()), new Set(all.slice(4)));
    }),
  );
});

test('packed chunks are unpacked as they were', () => {
  const usage = { usedAtMs: 1.5, hits: 3, pinnedUntilMs: 7, pinTtlMs: 8, ttlMs: 9, priority: 50 };
  const none = { ...usage, pinnedUntilMs: undefined, pinTtlMs: undefined, ttlMs: undefined };
  const chunks: LoadedChunk[] = [...chainOf(3), ...chainOf(2, 'another tenant')].map((chunk, i) => ({
    ...chunk,
    isOwn: i % 2 === 0,
    isExact: i % 3 === 0,
    fileBytes: 1000 + i,
    createdAtMs: i / 2,
    usage: i % 2 === 0 ? usage : none,
  }));
  const foreign = { ...chunks[0]!, namespace: '', tokens: new Int32Array() };
  for (const some of [[], chunks, [foreign, ...chunks]]) {
    const carried: typeof some = unpackChunks(structuredClone(packChunks(some)));
    assert.deepEqual(carried, some);
  }
});

suite('the budget', () => {
  test('leaves what others need free, by what was seen and what happened since', () => {
    const budget = new DiskBudget({ budgetBytes: DIRECTORY_BYTES + 1000, freeBytesMin: 100 });
    assert.deepEqual([budget.capacityBytes, budget.freeBytes], [1000, undefined]);
    assert.equal(budget.shortageBytes(600), 0);
    budget.saw(500, 0);
    assert.equal(budget.shortageBytes(600), 0);
    budget.moved(300);
    assert.equal(budget.shortageBytes(900), 0);
    assert.equal(budget.shortageBytes(600), 300);
    budget.saw(20, 0);
    assert.equal(budget.shortageBytes(900), 180);
    assert.equal(budget.shortageBytes(0), 1000);
  });

  test('charges a chunk for whole blocks and its row', () => {
    assert.equal(chargedBytes(1) - chargedBytes(0), 4096);
    assert.equal(chargedBytes(4096), chargedBytes(1));
    assert(chargedBytes(0) > 560);
  });
});

const columns = (database: Database.Database): unknown[] =>
  database.prepare("SELECT name FROM pragma_table_info('chunks')").pluck().all();

suite('migrations', () => {
  test('run forward only, each once, and leave what there is', () => {
    const database = new Database(':memory:');
    migrate(database, MIGRATIONS);
    database.exec(
      `INSERT INTO chunks (key, namespace, tokens, owner, file_bytes, codec, exact, created_ms, used_ms, hits, priority)
       VALUES (x'01', '', x'', 1, 2, 3, 1, 5, 6, 7, 8)`,
    );
    const next = [...MIGRATIONS, 'ALTER TABLE chunks ADD COLUMN colour TEXT'];
    migrate(database, next);
    migrate(database, next);
    assert(columns(database).includes('colour'));
    assert.equal(database.pragma('user_version', { simple: true }), next.length);
    assert.equal(database.prepare('SELECT hits FROM chunks').pluck().get(), 7);
    assert.throws(
      () => migrate(database, MIGRATIONS),
      (error) => error instanceof DiskError && error.code === 'disk_version',
    );
    database.close();
  });

  test('that fail half way leave the version before', () => {
    const database = new Database(':memory:');
    migrate(database, MIGRATIONS);
    const broken = [...MIGRATIONS, 'ALTER TABLE chunks ADD COLUMN colour TEXT; SELECT nonsense'];
    assert.throws(() => migrate(database, broken));
    assert(!columns(database).includes('colour'));
    assert.equal(database.pragma('user_version', { simple: true }), MIGRATIONS.length);
    database.close();
  });
});
