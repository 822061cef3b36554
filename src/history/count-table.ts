/**
 * The counts on disk: one SQLite table of what the requests of a bucket came to, in all sizes of buckets at once.
 *
 * Invariants:
 * - a batch is added to every size in one transaction, so that sizes agree, and a bucket goes on after a restart;
 * - the groups of each dimension add up to the total;
 * - the table is bounded, whatever the clock does and however many tenants there are: of each size at most
 *   `bucketsMax` buckets, of which those furthest from now go first; in each largest bucket, and so in each smaller
 *   one, `GROUPS_MAX` groups of a dimension beside `other`; over all time `ALL_TIME_GROUPS_MAX`.
 */
import type Database from 'better-sqlite3';
import { guardDatabase, openDatabase } from '#storage';
import { COUNT_NAMES, type Counts } from '../serving/counts.js';
import { MIGRATIONS } from './migrations.js';
import { bucketsMax, floorTo, RESOLUTIONS, type Resolution, type Span } from './resolutions.js';

/** What can be grouped by. */
export const DIMENSIONS = ['tenant', 'model', 'route'] as const;
export type Dimension = (typeof DIMENSIONS)[number];

/** Groups of a dimension that are told apart in an hour, and in an answer; those that come later are in `other`. */
export const GROUPS_MAX = 64;

/** Groups of a dimension that are told apart over all time; beyond that, the smallest go into `other`. */
const ALL_TIME_GROUPS_MAX = 1000;

/** The group of those without one of their own. */
export const OTHER = 'other';

/** The row of a bucket without grouping, `total`, has an empty name. */
export const ROW_DIMENSIONS = ['total', ...DIMENSIONS] as const;
export type RowDimension = (typeof ROW_DIMENSIONS)[number];

export interface CountRow {
  /** A moment in the bucket. */
  readonly atMs: number;
  readonly dimension: RowDimension;
  readonly name: string;
  readonly counts: Counts;
}

export interface SeriesPoint {
  readonly startMs: number;
  readonly counts: Counts;
}

/** The limits, smaller in tests. */
export interface TableLimits {
  /** From fine to coarse. */
  readonly resolutions: readonly Resolution[];
  readonly groupsMax: number;
  readonly allTimeGroupsMax: number;
}

export const DEFAULT_TABLE_LIMITS: TableLimits = {
  resolutions: RESOLUTIONS,
  groupsMax: GROUPS_MAX,
  allTimeGroupsMax: ALL_TIME_GROUPS_MAX,
};

const ALL_TIME = { sizeMs: 0, startMs: 0 };

const COLUMNS = COUNT_NAMES.map((name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`));
const SUMS = COUNT_NAMES.map((name, i) => `sum(${COLUMNS[i]}) AS ${name}`).join(', ');
const BUCKET = 'size_ms = ? AND dimension = ? AND start_ms = ?';
const RANGE = 'size_ms = ? AND dimension = ? AND start_ms >= ? AND start_ms < ?';

function prepareAll(database: Database.Database) {
  const number = (sql: string) => database.prepare<unknown[], number>(sql).pluck();
  return {
    add: database.prepare(
      `INSERT INTO counts (size_ms, dimension, start_ms, name, ${COLUMNS.join(', ')})
       VALUES (?, ?, ?, ?, ${COLUMNS.map(() => '?').join(', ')})
       ON CONFLICT DO UPDATE SET ${COLUMNS.map((column) => `${column} = ${column} + excluded.${column}`).join(', ')}`,
    ),
    has: number(`SELECT 1 FROM counts WHERE ${BUCKET} AND name = ?`),
    groups: number(`SELECT count(*) FROM counts WHERE ${BUCKET} AND name <> '${OTHER}'`),
    smallest: database.prepare<unknown[], { readonly name: string } & Counts>(
      `SELECT name, ${SUMS} FROM counts
       WHERE ${BUCKET} AND name <> '${OTHER}' AND name NOT IN (SELECT name FROM counts WHERE ${BUCKET})
       GROUP BY name ORDER BY sum(completed + aborted + failed + refused), name LIMIT ?`,
    ),
    removeGroup: database.prepare(`DELETE FROM counts WHERE ${BUCKET} AND name = ?`),
    buckets: database.prepare<unknown[], { buckets: number; first: number; last: number }>(
      `SELECT count(*) AS buckets, min(start_ms) AS first, max(start_ms) AS last
       FROM counts WHERE size_ms = ? AND dimension = 'total'`,
    ),
    removeBucket: database.prepare(`DELETE FROM counts WHERE ${BUCKET}`),
    sum: database.prepare<unknown[], { readonly name: string } & Counts>(
      `SELECT name, ${SUMS} FROM counts WHERE ${RANGE} GROUP BY name`,
    ),
    series: database.prepare<unknown[], { readonly startMs: number } & Counts>(
      // Numbers are bound as reals, by which nothing divides to whole numbers.
      `SELECT start_ms / CAST(? AS INTEGER) * CAST(? AS INTEGER) AS startMs, ${SUMS}
       FROM counts WHERE ${RANGE} GROUP BY 1 ORDER BY 1`,
    ),
    begin: database.prepare('INSERT INTO beginning (id, at_ms) VALUES (1, ?) ON CONFLICT DO NOTHING'),
    beganMs: number('SELECT at_ms FROM beginning'),
  };
}

export class CountTable {
  /** When the first of its counts could come. */
  readonly beganMs: number;
  readonly #database: Database.Database;
  readonly #sql: ReturnType<typeof prepareAll>;
  readonly #limits: TableLimits;

  private constructor(database: Database.Database, nowMs: number, limits: TableLimits) {
    this.#database = database;
    this.#limits = limits;
    this.#sql = prepareAll(database);
    this.#sql.begin.run(nowMs);
    this.beganMs = this.#sql.beganMs.get()!;
  }

  /**
   * @param path of the file, or `:memory:`
   * @throws DiskError as `openDatabase` does
   */
  static open(path: string, nowMs: number, limits = DEFAULT_TABLE_LIMITS): CountTable {
    const database = openDatabase(path, MIGRATIONS);
    try {
      return guardDatabase(() => new CountTable(database, nowMs, limits));
    } catch (error) {
      database.close();
      throw error;
    }
  }

  /** Adds all rows or, when it throws, none. @throws DiskError */
  add(rows: readonly CountRow[], nowMs: number): void {
    const { resolutions } = this.#limits;
    const addAll = this.#database.transaction(() => {
      const grown = resolutions.filter((resolution) => rows.some((row) => this.#isNew(row, resolution)));
      for (const row of rows) {
        const name = this.#groupOf(row);
        for (const { sizeMs } of resolutions) this.#addTo(sizeMs, floorTo(row.atMs, sizeMs), row, name);
        this.#addTo(ALL_TIME.sizeMs, ALL_TIME.startMs, row, name);
      }
      for (const resolution of grown) this.#boundBuckets(resolution, nowMs);
      for (const dimension of DIMENSIONS) this.#boundAllTime(dimension, nowMs);
    });
    guardDatabase(() => addAll.immediate());
  }

  /** What the groups came to in some buckets, by name. @throws DiskError */
  sum(dimension: RowDimension, { sizeMs, startMs, endMs }: Span): Map<string, Counts> {
    const rows = guardDatabase(() => this.#sql.sum.all(sizeMs, dimension, startMs, endMs));
    return new Map(rows.map(({ name, ...counts }) => [name, counts]));
  }

  /** The same over all time, also where buckets are gone. @throws DiskError */
  sumAll(dimension: RowDimension): Map<string, Counts> {
    return this.sum(dimension, { ...ALL_TIME, endMs: 1 });
  }

  /** Points of `stepMs`, in order, without those in which there was nothing. @throws DiskError */
  series(stepMs: number, { sizeMs, startMs, endMs }: Span): SeriesPoint[] {
    const rows = guardDatabase(() => this.#sql.series.all(stepMs, stepMs, sizeMs, 'total', startMs, endMs));
    return rows.map(({ startMs: start, ...counts }) => ({ startMs: start, counts }));
  }

  close(): void {
    this.#database.close();
  }

  get #coarsest(): Resolution {
    return this.#limits.resolutions.at(-1)!;
  }

  /** Whether a bucket begins with a row. */
  #isNew({ atMs, dimension, name }: CountRow, { sizeMs }: Resolution): boolean {
    if (dimension !== 'total') return false;
    return this.#sql.has.get(sizeMs, dimension, floorTo(atMs, sizeMs), name) === undefined;
  }

  #addTo(sizeMs: number, startMs: number, { dimension, counts }: CountRow, name: string): void {
    this.#sql.add.run(sizeMs, dimension, startMs, name, ...COUNT_NAMES.map((count) => counts[count]));
  }

  /** Itself, or `other` where its largest bucket is full. */
  #groupOf({ atMs, dimension, name }: CountRow): string {
    if (dimension === 'total') return name;
    const { sizeMs } = this.#coarsest;
    const bucket = [sizeMs, dimension, floorTo(atMs, sizeMs)];
    if (this.#sql.has.get(...bucket, name) !== undefined) return name;
    return this.#sql.groups.get(...bucket)! < this.#limits.groupsMax ? name : OTHER;
  }

  /** A clock that was wrong for a while costs no more buckets than it made. */
  #boundBuckets(resolution: Resolution, nowMs: number): void {
    for (;;) {
      const { buckets, first, last } = this.#sql.buckets.get(resolution.sizeMs)!;
      if (buckets <= bucketsMax(resolution)) return;
      const furthest = Math.abs(nowMs - first) >= Math.abs(last - nowMs) ? first : last;
      for (const dimension of ROW_DIMENSIONS)
        this.#sql.removeBucket.run(resolution.sizeMs, dimension, furthest);
    }
  }

  /** Groups of this hour stay, so that a new one has time to grow. */
  #boundAllTime(dimension: Dimension, nowMs: number): void {
    const all = [ALL_TIME.sizeMs, dimension, ALL_TIME.startMs];
    const excess = this.#sql.groups.get(...all)! - this.#limits.allTimeGroupsMax;
    if (excess <= 0) return;
    const { sizeMs } = this.#coarsest;
    const current = [sizeMs, dimension, floorTo(nowMs, sizeMs)];
    for (const { name, ...counts } of this.#sql.smallest.all(...all, ...current, excess)) {
      this.#sql.removeGroup.run(...all, name);
      this.#sql.add.run(...all, OTHER, ...COUNT_NAMES.map((count) => counts[count]));
    }
  }
}
