/**
 * Any requests at any times, with restarts between them, against a list of them: few groups and short buckets, so that
 * everything is full soon.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import {
  CountTable,
  DIMENSIONS,
  OTHER,
  ROW_DIMENSIONS,
  type TableLimits,
} from '../../src/history/count-table.js';
import { bucketsMax, cover, horizonMs, type Resolution } from '../../src/history/resolutions.js';
import type { Counts } from '../../src/serving/counts.js';
import { arbitraryCounts, summed } from './counting.js';

const SHORT: readonly Resolution[] = [
  { sizeMs: 10, keepMs: 60 },
  { sizeMs: 20, keepMs: 200 },
  { sizeMs: 80, keepMs: 800 },
];
const LONG = SHORT.map(({ sizeMs }) => ({ sizeMs, keepMs: 1e6 }));
const BEGAN_MS = 5000;
const ALL = { startMs: 0, endMs: 1e9 };

interface Request {
  readonly atMs: number;
  readonly tenant: string;
  readonly model: string;
  readonly route: string;
  readonly counts: Counts;
}

type Step = 'restart' | { readonly waitMs: number; readonly batch: readonly Omit<Request, 'atMs'>[] };

const request = fc.record({
  tenant: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'),
  model: fc.constantFrom('m', 'n'),
  route: fc.constantFrom('chat', 'text'),
  counts: arbitraryCounts,
});

/** A batch, written after so much time; the clock may go back. */
const steps = (waitMs: fc.Arbitrary<number>): fc.Arbitrary<Step[]> =>
  fc.array(
    fc.oneof(
      { weight: 6, arbitrary: fc.record({ waitMs, batch: fc.array(request, { maxLength: 6 }) }) },
      { weight: 1, arbitrary: fc.constant<Step>('restart') },
    ),
    { maxLength: 30, size: 'max' },
  );

const directory = mkdtempSync(join(tmpdir(), 'radixkv-counts-'));
after(() => rmSync(directory, { recursive: true }));

class Walk {
  readonly file: string;
  readonly limits: TableLimits;
  readonly requests: Request[] = [];
  nowMs = BEGAN_MS;
  table: CountTable;

  constructor(resolutions: readonly Resolution[]) {
    this.file = join(mkdtempSync(join(directory, 'walk-')), 'counts.sqlite');
    this.limits = { resolutions, groupsMax: 3, allTimeGroupsMax: 5 };
    this.table = this.#open();
  }

  take(all: readonly Step[]): this {
    for (const step of all) {
      if (step === 'restart') {
        this.table.close();
        this.table = this.#open();
      } else {
        this.nowMs = Math.max(0, this.nowMs + step.waitMs);
        this.#write(step.batch.map((each) => ({ ...each, atMs: this.nowMs })));
      }
    }
    return this;
  }

  between(startMs: number, endMs: number): Counts {
    const within = this.requests.filter(({ atMs }) => atMs >= startMs && atMs < endMs);
    return summed(within.map(({ counts }) => counts));
  }

  #open(): CountTable {
    return CountTable.open(this.file, this.nowMs, this.limits);
  }

  #write(batch: readonly Request[]): void {
    const rows = batch.flatMap(({ atMs, tenant, model, route, counts }) =>
      Object.entries({ total: '', tenant, model, route }).map(([dimension, name]) => ({
        atMs,
        dimension: ROW_DIMENSIONS.find((each) => each === dimension)!,
        name,
        counts,
      })),
    );
    this.table.add(rows, this.nowMs);
    this.requests.push(...batch);
  }
}

const FORWARD = fc.constantFrom(0, 1, 7, 10, 33);
const ANYWHERE = fc.oneof(FORWARD, fc.integer({ min: -3000, max: 3000 }));

test('an aligned time has the same sum in every size, of everything and of each group, wherever the clock goes', () => {
  fc.assert(
    fc.property(steps(ANYWHERE), fc.nat(100), fc.nat(100), (all, from, buckets) => {
      const walk = new Walk(LONG).take(all);
      const { sizeMs } = LONG.at(-1)!;
      const [startMs, endMs] = [from * sizeMs, (from + buckets) * sizeMs];
      for (const dimension of ROW_DIMENSIONS) {
        const sums = LONG.map((each) => walk.table.sum(dimension, { ...each, startMs, endMs }));
        for (const sum of sums) {
          assert.deepEqual(sum, sums[0]);
          assert.deepEqual(summed(sum.values()), walk.between(startMs, endMs));
        }
      }
      walk.table.close();
    }),
    { numRuns: 25 },
  );
});

test('what is kept is all there while the clock runs forward, by any cover of the last time', () => {
  fc.assert(
    fc.property(steps(FORWARD), fc.nat(800), (all, windowMs) => {
      const walk = new Walk(SHORT).take(all);
      const { nowMs, table } = walk;
      for (const resolution of SHORT) {
        const startMs = horizonMs(resolution, nowMs);
        const kept = table.sum('total', { ...resolution, startMs, endMs: nowMs + 1 });
        assert.deepEqual(summed(kept.values()), walk.between(startMs, nowMs + 1));
      }
      const spans = cover(SHORT, windowMs, nowMs);
      const sum = spans.flatMap((span) => [...table.sum('total', span).values()]);
      assert.deepEqual(summed(sum), walk.between(spans[0]!.startMs, nowMs + 1));
      assert(nowMs - windowMs - spans[0]!.startMs < SHORT.at(-1)!.sizeMs);
      table.close();
    }),
    { numRuns: 25 },
  );
});

test('nothing is missing over all time, and the file is bounded, wherever the clock goes', () => {
  fc.assert(
    fc.property(steps(ANYWHERE), (all) => {
      const walk = new Walk(SHORT).take(all);
      const { table, limits, requests } = walk;
      for (const dimension of ROW_DIMENSIONS) {
        const sum = table.sumAll(dimension);
        assert.deepEqual(summed(sum.values()), summed(requests.map(({ counts }) => counts)));
        assert(sum.size <= limits.allTimeGroupsMax + 1);
      }
      for (const resolution of SHORT) {
        const { sizeMs } = resolution;
        const points = table.series(sizeMs, { ...ALL, sizeMs });
        assert(points.length <= bucketsMax(resolution));
        for (const dimension of DIMENSIONS) {
          for (const { startMs, counts } of points) {
            const groups = table.sum(dimension, { sizeMs, startMs, endMs: startMs + 1 });
            assert([...groups.keys()].filter((name) => name !== OTHER).length <= limits.groupsMax);
            assert.deepEqual(summed(groups.values()), counts);
          }
        }
      }
      table.close();
      const buckets = SHORT.reduce((sum, resolution) => sum + bucketsMax(resolution), 0);
      const rowsMax = buckets * (1 + 3 * (limits.groupsMax + 1)) + 1 + 3 * (limits.allTimeGroupsMax + 1);
      assert(rowsOf(walk.file) <= rowsMax);
    }),
    { numRuns: 25 },
  );
});

test('a clock that is wrong for a while costs no more than the buckets of that time, and nothing later', () => {
  const walk = new Walk(SHORT);
  const run = (startMs: number, endMs: number) => {
    for (let atMs = startMs; atMs < endMs; atMs += 10)
      walk.take([{ waitMs: atMs - walk.nowMs, batch: fc.sample(request, 1) }]);
  };
  /** That everything is there but for the furthest buckets. */
  const assertKept = (missing: number) => {
    for (const resolution of SHORT) {
      const startMs = horizonMs(resolution, walk.nowMs) + missing * resolution.sizeMs;
      const kept = walk.table.sum('total', { ...resolution, startMs, endMs: walk.nowMs + 1 });
      assert.deepEqual(summed(kept.values()), walk.between(startMs, walk.nowMs + 1));
    }
  };
  run(5000, 6000);
  run(900_000, 900_020);
  run(40, 50);
  run(6000, 6010);
  assertKept(3);
  run(6010, 7000);
  assertKept(0);
  walk.table.close();
});

function rowsOf(file: string): number {
  const database = new Database(file);
  const rows = database.prepare<[], number>('SELECT count(*) FROM counts').pluck().get()!;
  database.close();
  return rows;
}
