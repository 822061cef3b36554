/**
 * What was served, over time and over restarts: by tenant, model and route, in buckets that grow coarser with age.
 *
 * Counts come in already made (serving/statistics.ts) and are only added up here. They wait in memory and are written
 * in batches, every few seconds, before they are read, and at the end; a killed process loses those of the last
 * seconds. A database that fails stops nobody: what could not be written is tried again, as far as memory for it is
 * allowed, and what is given up is counted and logged.
 */
import type { Logger } from 'pino';
import { type Clock, DiskError, openOrBeginAnew } from '#storage';
import { errnoOf } from '../errno.js';
import { RadixkvError } from '../errors.js';
import { addCounts, type Counts, noCounts, requestsOf } from '../serving/counts.js';
import type { HistoryReading, RequestRecord } from '../serving/statistics.js';
import {
  type CountRow,
  CountTable,
  DEFAULT_TABLE_LIMITS,
  type Dimension,
  OTHER,
  type RowDimension,
  type SeriesPoint,
  type TableLimits,
} from './count-table.js';
import { PendingCounts } from './pending-counts.js';
import {
  ceilTo,
  cover,
  defaultStepMs,
  floorTo,
  horizonMs,
  POINTS_MAX,
  resolutionFor,
  WINDOWS,
  type WindowName,
} from './resolutions.js';

/** How long counts wait in memory at most. */
export const WRITE_EVERY_MS = 5000;

/** How far a series reaches that is not told from when on. */
const SERIES_MS_DEFAULT = 3_600_000;

export interface HistoryOptions {
  /** Of the database; its directory exists. Absent: the history ends with the process. */
  readonly file?: string;
  readonly clock: Clock;
  readonly logger?: Logger;
  readonly limits?: Partial<TableLimits>;
}

/** What went wrong with the database, since the start. */
interface Faults {
  /** Batches that were refused; they are tried again. */
  readonly writes_failed: number;
  /** The file was corrupt, and was begun anew. */
  readonly set_aside: number;
  /** The file could not be used: the history ends with the process. */
  readonly not_opened: number;
}

export interface WindowReading {
  readonly sinceMs: number;
  readonly total: Counts;
  /** The largest by prompt tokens first, `other` last; undefined without a dimension. */
  readonly groups: readonly { readonly name: string; readonly counts: Counts }[] | undefined;
}

export interface SeriesQuery {
  readonly fromMs?: number | undefined;
  readonly toMs?: number | undefined;
  readonly stepMs?: number | undefined;
}

export interface Series {
  readonly stepMs: number;
  /** Half-open, whole steps; not before what is kept, and not behind the step of this moment. */
  readonly fromMs: number;
  readonly toMs: number;
  /** Those in which there was something. */
  readonly points: readonly SeriesPoint[];
}

export class History {
  readonly #table: CountTable;
  readonly #clock: Clock;
  readonly #logger: Logger | undefined;
  readonly #limits: TableLimits;
  readonly #pending: PendingCounts;
  #faults: Faults;
  #lostRequests = 0;
  #isFailing = false;
  #isClosed = false;
  #timer: NodeJS.Timeout | undefined;

  private constructor(options: HistoryOptions, opened: Opened) {
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#limits = { ...DEFAULT_TABLE_LIMITS, ...options.limits };
    this.#pending = new PendingCounts(this.#limits.resolutions[0]!.sizeMs);
    this.#table = opened.table;
    this.#faults = { ...opened.faults, writes_failed: 0 };
  }

  /** Opens or makes the history. A file that is corrupt is set aside; one that can't be used is done without. */
  static open(options: HistoryOptions): History {
    return new History(options, openTable(options));
  }

  /** Adds a request that ended now. */
  add(
    { tenant, model, endpoint }: Pick<RequestRecord, 'tenant' | 'model' | 'endpoint'>,
    counts: Counts,
  ): void {
    if (this.#isClosed) {
      this.#lose(requestsOf(counts));
      return;
    }
    const lost = this.#pending.add(this.#clock.now(), { tenant, model, route: endpoint }, counts);
    if (lost > 0) this.#lose(lost);
    this.#timer ??= setTimeout(() => this.#writeInTime(), WRITE_EVERY_MS).unref();
  }

  /**
   * What the requests of the last time came to.
   * @throws RadixkvError `statistics_unavailable`
   */
  read(window: WindowName, dimension?: Dimension): WindowReading {
    return this.#asking(() => {
      const nowMs = this.#clock.now();
      const { beganMs } = this.#table;
      if (window === 'all') {
        const sumAll = (of: RowDimension) => this.#table.sumAll(of);
        return { sinceMs: beganMs, ...this.#reading(sumAll, dimension) };
      }
      const spans = cover(this.#limits.resolutions, WINDOWS[window], nowMs);
      const sum = (of: RowDimension) => merged(spans.map((span) => this.#table.sum(of, span)));
      return {
        sinceMs: since(spans[0]!.startMs, beganMs, nowMs),
        ...this.#reading(sum, dimension),
      };
    });
  }

  /**
   * What the requests of each step came to: without a time the last hour, without a step one that suits the time.
   * @throws RadixkvError `statistics_unavailable`; `invalid_value` for a time that ends before it begins, or a step
   * that no bucket divides or that is too short for the time
   */
  series({ fromMs, toMs, stepMs }: SeriesQuery): Series {
    return this.#asking(() => {
      const nowMs = this.#clock.now();
      const { beganMs } = this.#table;
      const endMs = toMs ?? nowMs;
      const startMs = fromMs ?? endMs - SERIES_MS_DEFAULT;
      if (startMs >= endMs) throw refused('from', 'from must be before to');
      const range = { fromMs: since(startMs, beganMs, nowMs), toMs: Math.min(endMs, nowMs + 1), nowMs };
      return this.#stepped(range, stepMs ?? defaultStepMs(this.#limits.resolutions, range));
    });
  }

  /** The whole steps of a range that are kept. */
  #stepped({ fromMs, toMs, nowMs }: { fromMs: number; toMs: number; nowMs: number }, stepMs: number): Series {
    const { resolutions } = this.#limits;
    const resolution = resolutionFor(resolutions, stepMs);
    if (resolution === undefined)
      throw refused('step', `step must be a multiple of ${resolutions[0]!.sizeMs / 1000} s`);
    const { sizeMs } = resolution;
    const startMs = Math.max(floorTo(fromMs, stepMs), ceilTo(horizonMs(resolution, nowMs), stepMs));
    const endMs = Math.max(startMs, ceilTo(toMs, stepMs));
    if ((endMs - startMs) / stepMs > POINTS_MAX)
      throw refused('step', `step must be longer: a series has at most ${POINTS_MAX} points`);
    const points = this.#table.series(stepMs, { sizeMs, startMs, endMs });
    return { stepMs, fromMs: startMs, toMs: endMs, points };
  }

  reading(): HistoryReading {
    return {
      faults: { ...this.#faults },
      unwrittenRequests: this.#pending.requests,
      lostRequests: this.#lostRequests,
    };
  }

  /** Writes what is left. Requests that end later are lost. */
  close(): void {
    if (this.#isClosed) return;
    clearTimeout(this.#timer);
    this.#tryToWrite();
    this.#isClosed = true;
    if (this.#pending.requests > 0) this.#lose(this.#pending.requests);
    this.#table.close();
  }

  #reading(
    sum: (dimension: RowDimension) => ReadonlyMap<string, Counts>,
    dimension: Dimension | undefined,
  ): Omit<WindowReading, 'sinceMs'> {
    const total = sum('total').get('') ?? noCounts();
    return { total, groups: dimension && largest(sum(dimension), this.#limits.groupsMax) };
  }

  /** With everything written that is there. */
  #asking<T>(read: () => T): T {
    if (this.#isClosed) throw unavailable();
    try {
      this.#write();
      return read();
    } catch (cause) {
      if (!(cause instanceof DiskError)) throw cause;
      throw unavailable(cause);
    }
  }

  #writeInTime(): void {
    this.#timer = undefined;
    this.#tryToWrite();
    if (this.#pending.requests > 0) {
      this.#timer = setTimeout(() => this.#writeInTime(), WRITE_EVERY_MS).unref();
    }
  }

  #tryToWrite(): void {
    try {
      this.#write();
    } catch (error) {
      // Counted and logged.
      if (!(error instanceof DiskError)) throw error;
    }
  }

  /** @throws DiskError; what is pending stays so */
  #write(): void {
    const rows: readonly CountRow[] = this.#pending.rows();
    if (rows.length === 0) return;
    try {
      this.#table.add(rows, this.#clock.now());
    } catch (error) {
      this.#faults = { ...this.#faults, writes_failed: this.#faults.writes_failed + 1 };
      if (!this.#isFailing) this.#logger?.error({ err: error }, 'statistics could not be written');
      this.#isFailing = true;
      throw error;
    }
    this.#pending.clear();
    if (this.#isFailing) this.#logger?.warn('statistics can be written again');
    this.#isFailing = false;
  }

  #lose(requests: number): void {
    this.#lostRequests += requests;
    this.#logger?.error({ requests }, 'requests are lost to the statistics of the past');
  }
}

/** From when on there can be counts of a time that was asked for; a clock that went back tells nothing. */
function since(askedMs: number, beganMs: number, nowMs: number): number {
  return beganMs <= nowMs ? Math.max(askedMs, beganMs) : askedMs;
}

function unavailable(cause?: DiskError): RadixkvError {
  return new RadixkvError('statistics_unavailable', 'the statistics of the past cannot be read now', {
    retryAfterS: WRITE_EVERY_MS / 1000,
    cause,
  });
}

function refused(param: string, message: string): RadixkvError {
  return new RadixkvError('invalid_value', message, { param });
}

function merged(sums: readonly ReadonlyMap<string, Counts>[]): Map<string, Counts> {
  const all = new Map<string, Counts>();
  for (const sum of sums) {
    for (const [name, counts] of sum) addTo(all, name, counts);
  }
  return all;
}

function addTo(sums: Map<string, Counts>, name: string, counts: Counts): void {
  const sum = sums.get(name) ?? noCounts();
  addCounts(sum, counts);
  sums.set(name, sum);
}

/** The `groupsMax` largest groups, and the others as one. */
function largest(groups: ReadonlyMap<string, Counts>, groupsMax: number): WindowReading['groups'] {
  const bySize = [...groups]
    .filter(([name]) => name !== OTHER)
    .sort(([a, x], [b, y]) => {
      return y.promptTokens - x.promptTokens || requestsOf(y) - requestsOf(x) || (a < b ? -1 : 1);
    });
  const kept = new Map(bySize.slice(0, groupsMax));
  for (const [, counts] of bySize.slice(groupsMax)) addTo(kept, OTHER, counts);
  const other = groups.get(OTHER);
  if (other !== undefined) addTo(kept, OTHER, other);
  return [...kept].map(([name, counts]) => ({ name, counts }));
}

interface Opened {
  readonly table: CountTable;
  readonly faults: Omit<Faults, 'writes_failed'>;
}

function openTable({ file, clock, logger, limits: overrides }: HistoryOptions): Opened {
  const limits = { ...DEFAULT_TABLE_LIMITS, ...overrides };
  const open = (path: string) => CountTable.open(path, clock.now(), limits);
  if (file === undefined) return { table: open(':memory:'), faults: { set_aside: 0, not_opened: 0 } };
  let setAside = 0;
  try {
    const table = openOrBeginAnew(
      file,
      () => open(file),
      (error) => {
        setAside++;
        logger?.error({ err: error, file }, 'the statistics are corrupt; they are set aside and begun anew');
      },
    );
    return { table, faults: { set_aside: setAside, not_opened: 0 } };
  } catch (error) {
    if (!(error instanceof DiskError) && errnoOf(error) === undefined) throw error;
    logger?.error({ err: error, file }, 'the statistics cannot be kept: they end with the process');
    return { table: open(':memory:'), faults: { set_aside: 0, not_opened: 1 } };
  }
}
