import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { pino } from 'pino';
import { openDatabase } from '#storage';
import { History, type HistoryOptions } from '../../src/history/history.js';
import { MIGRATIONS } from '../../src/history/migrations.js';
import { type Counts, noCounts } from '../../src/serving/counts.js';
import { ManualClock } from '../support/manual-clock.js';
import { counted, summed } from './counting.js';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
/** 25 s after a whole minute. */
const START_MS = 20_000 * DAY_MS + 9 * HOUR_MS + 25_000;

class Desk {
  readonly directory = mkdtempSync(join(tmpdir(), 'radixkv-history-'));
  readonly file = join(this.directory, 'statistics.sqlite');
  readonly clock = new ManualClock(START_MS);
  readonly logged: string[] = [];
  readonly logger = pino({}, { write: (line: string) => void this.logged.push(line) });
  history: History;

  constructor(prepare: (desk: Desk) => void) {
    prepare(this);
    this.history = this.open();
  }

  open(options: Partial<HistoryOptions> = {}): History {
    const { file, clock, logger } = this;
    this.history = History.open({ file, clock, logger, ...options });
    return this.history;
  }

  reopen(): History {
    this.history.close();
    return this.open();
  }

  /** One request, `afterMs` later than what was before. */
  add(afterMs = 0, tenant = 'anonymous', counts = counted()): void {
    this.clock.nowMs += afterMs;
    this.history.add({ endpoint: 'completions', model: 'm', tenant }, counts);
  }

  total(...asked: Parameters<History['read']>): Counts {
    return this.history.read(...asked).total;
  }
}

function desk(t: TestContext, prepare: (desk: Desk) => void = () => {}): Desk {
  const made = new Desk(prepare);
  t.after(() => {
    made.history.close();
    rmSync(made.directory, { recursive: true });
  });
  return made;
}

const times = (count: number): Counts => summed(Array.from({ length: count }, () => counted()));

suite('a window', () => {
  test('has what ended within it, from the beginning of the bucket that it begins in', (t) => {
    const made = desk(t);
    made.clock.nowMs -= DAY_MS + 2 * HOUR_MS;
    made.reopen();
    rmSync(made.file);
    made.reopen();
    for (const afterMs of [0, 2 * HOUR_MS, DAY_MS - HOUR_MS, HOUR_MS - 5 * MINUTE_MS, 5 * MINUTE_MS - 30_000])
      made.add(afterMs);
    made.clock.nowMs += 30_000;
    const { nowMs } = made.clock;
    assert.equal(nowMs, START_MS);
    const asked = (['1m', '5m', '1h', '24h', 'all'] as const).map((window) => {
      const { sinceMs, total } = made.history.read(window);
      return [window, total.completed, nowMs - sinceMs];
    });
    assert.deepEqual(asked, [
      ['1m', 1, MINUTE_MS + 5000],
      ['5m', 2, 5 * MINUTE_MS + 5000],
      ['1h', 3, HOUR_MS + 5000],
      ['24h', 4, DAY_MS + 25_000],
      ['all', 5, DAY_MS + 2 * HOUR_MS],
    ]);
  });

  test('begins no earlier than the history does', (t) => {
    const made = desk(t);
    made.add(1000);
    assert.equal(made.history.read('24h').sinceMs, START_MS);
    assert.deepEqual(made.total('24h'), counted());
  });

  test('has groups that add up to it, the largest first, and those beyond the limit as one', (t) => {
    const made = desk(t);
    for (let tenant = 0; tenant < 70; tenant++) made.add(0, `tenant ${tenant}`, counted(tenant));
    made.add(HOUR_MS, 'late', counted(9));
    for (const window of ['1m', '24h', 'all'] as const) {
      const { total, groups } = made.history.read(window, 'tenant');
      assert.deepEqual(summed(groups!.map(({ counts }) => counts)), total);
      assert(groups!.length <= 65);
    }
    const { groups } = made.history.read('24h', 'tenant');
    assert.deepEqual([groups![0]!.name, groups!.at(-1)!.name], ['tenant 63', 'other']);
    const sizes = groups!.slice(0, -1).map(({ counts }) => counts.promptTokens);
    assert.deepEqual(
      sizes,
      [...sizes].sort((a, b) => b - a),
    );
    assert(groups!.some(({ name }) => name === 'late'));
    assert.deepEqual(
      made.history.read('all', 'route').groups!.map(({ name }) => name),
      ['completions'],
    );
    assert.equal(made.history.read('all').groups, undefined);
  });
});

suite('a series', () => {
  test('has a point for each step with requests, whatever the step', (t) => {
    const made = desk(t);
    for (const afterMs of [0, 10_000, 10_000, MINUTE_MS, 10 * MINUTE_MS]) made.add(afterMs);
    for (const stepMs of [10_000, 20_000, 60_000, 90_000, 600_000, HOUR_MS, 7 * HOUR_MS]) {
      const { fromMs, toMs, points } = made.history.series({ fromMs: START_MS, stepMs });
      assert(fromMs <= START_MS && fromMs % stepMs === 0 && toMs % stepMs === 0, String(stepMs));
      assert(toMs > made.clock.nowMs && toMs - stepMs <= made.clock.nowMs, String(stepMs));
      assert(points.every(({ startMs }) => startMs % stepMs === 0 && startMs >= fromMs && startMs < toMs));
      assert.deepEqual(summed(points.map(({ counts }) => counts)), times(5), String(stepMs));
    }
    const { points } = made.history.series({ fromMs: START_MS, stepMs: 10_000 });
    assert.deepEqual(
      points.map(({ startMs, counts }) => [startMs - START_MS, counts.completed]),
      [-5000, 5000, 15_000, 75_000, 675_000].map((startMs) => [startMs, 1]),
    );
  });

  test('ends before its end and at this moment, and begins where buckets of its step are still kept', (t) => {
    const made = desk(t);
    made.add();
    made.add(2 * HOUR_MS);
    const reach = (asked: Parameters<History['series']>[0]) => {
      const { fromMs, toMs, points } = made.history.series(asked);
      return [fromMs - START_MS, toMs - START_MS, points.length];
    };
    const [fromMs, toMs] = [0, START_MS + DAY_MS];
    assert.deepEqual(reach({ fromMs, toMs, stepMs: 20_000 }), [HOUR_MS - 5000, 2 * HOUR_MS + 15_000, 1]);
    assert.deepEqual(reach({ fromMs, toMs, stepMs: 60_000 }), [-25_000, 2 * HOUR_MS + 35_000, 2]);
    assert.deepEqual(reach({ fromMs, toMs: START_MS + HOUR_MS, stepMs: 60_000 }), [
      -25_000,
      HOUR_MS + 35_000,
      1,
    ]);
    assert.deepEqual(reach({ fromMs: START_MS + DAY_MS, toMs: START_MS + 2 * DAY_MS }).slice(2), [0]);
  });

  test('without a step has one that reaches so far back, and not too many points', (t) => {
    const made = desk(t);
    for (let day = 0; day < 100; day++) made.add(DAY_MS);
    const { nowMs } = made.clock;
    const step = (backMs: number) => made.history.series({ fromMs: nowMs - backMs }).stepMs;
    assert.deepEqual(
      [HOUR_MS, 8 * HOUR_MS, 9 * HOUR_MS, DAY_MS, 3 * DAY_MS, 7 * DAY_MS, 30 * DAY_MS, 99 * DAY_MS].map(step),
      [1, 1, 5, 5, 10, 60, 360, 1440].map((minutes) => minutes * MINUTE_MS),
    );
    assert.equal(made.history.series({}).stepMs, MINUTE_MS);
    assert.equal(made.history.series({ fromMs: 0 }).points.length, 90);
    assert.equal(made.total('all').completed, 100);
  });
});

suite('the file of a history', () => {
  test('goes on after a restart, in the middle of a bucket, and is readable by its owner only', (t) => {
    const made = desk(t);
    made.add();
    made.reopen();
    made.add(1000);
    made.reopen();
    const { points } = made.history.series({ stepMs: 10_000 });
    assert.deepEqual(
      points.map(({ counts }) => counts),
      [times(2)],
    );
    assert.deepEqual(made.total('all'), times(2));
    assert.equal(made.history.read('all').sinceMs, START_MS);
    for (const name of readdirSync(made.directory))
      assert.equal(statSync(join(made.directory, name)).mode & 0o077, 0, name);
  });

  test('that is corrupt is set aside, counted, and begun anew', (t) => {
    const made = desk(t);
    made.add();
    made.history.close();
    writeFileSync(made.file, 'no database at all '.repeat(500));
    made.open();
    made.add();
    assert.deepEqual(made.total('all'), times(1));
    assert.deepEqual(made.history.reading().faults, { writes_failed: 0, set_aside: 1, not_opened: 0 });
    assert(existsSync(`${made.file}.corrupt`));
    assert.match(made.logged.join(), /corrupt/);
    for (const name of readdirSync(made.directory))
      assert.equal(statSync(join(made.directory, name)).mode & 0o077, 0, name);
  });

  test('that can not be used is done without, counted and logged', (t) => {
    const made = desk(t);
    for (const file of [made.file, join(made.directory, 'missing', 'statistics.sqlite')]) {
      const history = History.open({ file, clock: made.clock, logger: made.logger });
      history.add({ endpoint: 'completions', model: 'm', tenant: 't' }, counted());
      assert.deepEqual(history.read('1m').total, counted());
      assert.equal(history.reading().faults.not_opened, 1);
      history.close();
    }
    assert.match(made.logged[0]!, /another process/);
    assert.match(made.logged[1]!, /ENOENT/);
  });

  test('gets what waits every few seconds, without being asked', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const made = desk(t);
    for (let round = 0; round < 2; round++) {
      made.add();
      t.mock.timers.tick(4999);
      assert.equal(made.history.reading().unwrittenRequests, 1);
      t.mock.timers.tick(1);
      assert.equal(made.history.reading().unwrittenRequests, 0);
    }
  });
});

/** Refuses batches in which exactly so many requests of a bucket were completed. */
const refusing = (completed: string) => (made: Desk) => {
  const database = new Database(made.file);
  for (const step of MIGRATIONS) database.exec(step);
  database.pragma(`user_version = ${MIGRATIONS.length}`);
  database.exec(
    `CREATE TRIGGER refuse BEFORE INSERT ON counts WHEN new.dimension = 'total' AND ${completed}
     BEGIN SELECT raise(ABORT, 'the disk is on fire'); END`,
  );
  database.close();
};

suite('a database that fails', () => {
  test('keeps nobody from being counted: what was refused is written later', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const made = desk(t, refusing('new.completed = 1'));
    made.add();
    assert.throws(() => made.history.read('1m'), { code: 'statistics_unavailable', status: 503 });
    t.mock.timers.tick(5000);
    assert.equal(made.history.reading().faults.writes_failed, 2);
    assert.equal(made.logged.filter((line) => line.includes('could not be written')).length, 1);
    made.add();
    t.mock.timers.tick(5000);
    assert.deepEqual(made.history.reading(), {
      faults: { writes_failed: 2, set_aside: 0, not_opened: 0 },
      unwrittenRequests: 0,
      lostRequests: 0,
    });
    assert.deepEqual(made.total('all'), times(2));
    assert.match(made.logged.at(-1)!, /can be written again/);
  });

  test('until the end loses requests by number, and says so', (t) => {
    const made = desk(t, refusing('new.completed < 9'));
    made.add();
    made.add();
    made.history.close();
    made.add();
    assert.equal(made.history.reading().lostRequests, 3);
    assert.deepEqual(
      made.logged.map((line) => JSON.parse(line).requests).filter((requests) => requests !== undefined),
      [2, 1],
    );
    made.open();
    assert.deepEqual(made.total('all'), noCounts());
  });
});

test('a clock that jumps is survived: what ended is in all time, and where it was when it is right again', (t) => {
  const made = desk(t);
  made.add();
  made.add(30 * 365 * DAY_MS);
  made.reopen();
  made.add(-31 * 365 * DAY_MS);
  made.add(365 * DAY_MS);
  assert.equal(made.clock.nowMs, START_MS);
  assert.deepEqual(made.total('all'), times(4));
  assert.deepEqual(made.total('1m'), times(2));
  made.clock.nowMs = 0;
  assert.deepEqual(made.total('1h'), noCounts());
  assert.deepEqual(made.history.series({}).points, []);
});

test('a file of before regret and first tokens were counted goes on, with none of them', (t) => {
  const made = desk(t, ({ file }) => {
    const database = openDatabase(file, MIGRATIONS.slice(0, 1));
    database.exec(`INSERT INTO beginning VALUES (1, ${START_MS - DAY_MS})`);
    const names = database.prepare<[], { name: string }>('PRAGMA table_info(counts)').all();
    const values: string[] = names.map(({ name }) => (['dimension', 'name'].includes(name) ? `''` : '0'));
    values[names.findIndex(({ name }) => name === 'dimension')] = `'total'`;
    values[names.findIndex(({ name }) => name === 'prompt_tokens')] = '42';
    database.exec(`INSERT INTO counts VALUES (${values.join(', ')})`);
    database.close();
  });
  assert.deepEqual(made.total('all'), { ...noCounts(), promptTokens: 42 });
  made.add();
  assert.deepEqual(made.total('all'), summed([{ ...noCounts(), promptTokens: 42 }, counted()]));
  assert.equal(made.history.reading().faults.set_aside, 0);
});
