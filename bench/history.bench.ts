/**
 * How long the statistics take: to be read over HTTP from a database that ten million requests left, and to be counted.
 *
 * The traffic: 64 tenants, which share the requests of 90 days evenly, so that every bucket that is kept is there and
 * full. While it is read, requests go on ending, so that each reading finds some that are to be written first. Times are
 * those of a client in the same process.
 */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { createApp } from '../src/api/app.js';
import { startServer } from '../src/api/server.js';
import { CountTable, GROUPS_MAX } from '../src/history/count-table.js';
import { History } from '../src/history/history.js';
import { PendingCounts } from '../src/history/pending-counts.js';
import { floorTo, RESOLUTIONS } from '../src/history/resolutions.js';
import type { CompletionService } from '../src/serving/completion.js';
import { addCounts, type Counts, countsOf, noCounts } from '../src/serving/counts.js';
import { ENDPOINTS, type RequestRecord, Statistics } from '../src/serving/statistics.js';
import { median, quantileOf } from './statistics.js';
import { digits } from './table.js';

const MODEL = 'smollm2-135m-instruct';
const P99_MS_AT_MOST = 10;
/** Requests that end between two readings. */
const BETWEEN = 20;
/** The last batches, when the table is full, are those whose writing is told. */
const BATCHES = 100;

const USAGE = {
  promptTokens: 1300,
  completionTokens: 96,
  cachedTokens: { device: 512, host: 0, disk: 64, remote: 0 },
  blendedTokens: { device: 0, host: 124, disk: 0, remote: 0 },
  computedTokens: 600,
};
const TIMINGS = { queueMs: 1, loadMs: 2, prefillMs: 100, blend: undefined, decodeMs: 900, ttftMs: 101 };

const PATHS = [
  '/v1/cache/stats',
  ...['1m', '5m', '1h', '24h', 'all'].map((window) => `/v1/cache/stats?window=${window}`),
  ...['1h', '24h', 'all'].map((window) => `/v1/cache/stats?window=${window}&group_by=tenant`),
  '/v1/cache/stats/history',
  '/v1/cache/stats/history?step=3m',
  '/v1/cache/stats/history?from=0&step=6h',
  '/metrics',
];

interface ReadTimes {
  readonly medianMs: number;
  readonly p99Ms: number;
  /** Of this process, server and client, for each: hardly depends on what else the machine does. */
  readonly cpuMs: number;
}

export interface HistoryBench {
  readonly requests: number;
  readonly fileBytes: number;
  /** By path. */
  readonly reads: Readonly<Record<string, ReadTimes>>;
  /** Counting one request, its history and metrics included. */
  readonly recordNs: number;
  /** Writing what 64 tenants left in one bucket. */
  readonly writeMs: { readonly median: number; readonly p99: number };
}

/** Makes the database in a temporary directory (about a minute), and reads each path `reads` times. */
export async function historyBench({
  requests,
  reads,
}: {
  readonly requests: number;
  readonly reads: number;
}): Promise<HistoryBench> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-history-'));
  const file = join(directory, 'statistics.sqlite');
  try {
    const writes = fill(file, requests);
    const fileBytes = (await stat(file)).size;
    const history = History.open({ file, clock: { now: () => Date.now() } });
    const statistics = new Statistics({ gauges: () => ({ tiers: {} }), prefillTokensPerS: () => 139 });
    statistics.events.on('record', (record, counts) => history.add(record, counts));
    const timed = await readAll(statistics, history, reads);
    const recordNs = recordTime(statistics);
    history.close();
    return { requests, fileBytes, reads: timed, recordNs, writeMs: summary(writes) };
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Markdown. */
export function historyTable({ requests, fileBytes, reads, recordNs, writeMs }: HistoryBench): string {
  const header = ['path', 'median', `p99, target ≤ ${P99_MS_AT_MOST} ms`, 'CPU time of server and client'];
  const lines = Object.entries(reads).map(([path, { medianMs, p99Ms, cpuMs }]) => {
    const slow = p99Ms > P99_MS_AT_MOST ? ', above the target' : '';
    return [`\`${path}\``, `${digits(medianMs)} ms`, `${digits(p99Ms)} ms${slow}`, `${digits(cpuMs)} ms`];
  });
  const table = [header, header.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`);
  const size = `${digits(requests / 1e6)} million requests in ${digits(fileBytes / 2 ** 20)} MiB`;
  const cost = `${digits(recordNs)} ns to count one, ${digits(writeMs.median)} ms to write a batch`;
  return `${table.join('\n')}\n\n${size}; ${cost} (p99 ${digits(writeMs.p99)} ms)`;
}

/** Writes what the requests left in every bucket that is still kept, and before. @returns milliseconds of each batch */
function fill(file: string, requests: number): number[] {
  const nowMs = Date.now();
  const table = CountTable.open(file, nowMs - RESOLUTIONS.at(-1)!.keepMs);
  const perMs = requests / RESOLUTIONS.at(-1)!.keepMs;
  const writes: number[] = [];
  for (let i = RESOLUTIONS.length - 1, atMs = nowMs - RESOLUTIONS.at(-1)!.keepMs; i >= 0; i--) {
    const { sizeMs } = RESOLUTIONS[i]!;
    const finer = RESOLUTIONS[i - 1];
    const endMs = finer === undefined ? nowMs : floorTo(nowMs - finer.keepMs, sizeMs);
    for (; atMs < endMs; atMs += sizeMs) {
      const rows = bucketOf(atMs, Math.max(GROUPS_MAX, Math.round(perMs * sizeMs))).rows();
      const start = performance.now();
      table.add(rows, atMs);
      writes.push(performance.now() - start);
    }
  }
  table.close();
  return writes.slice(-BATCHES);
}

/** So many requests of all tenants. */
function bucketOf(atMs: number, requests: number): PendingCounts {
  const bucket = new PendingCounts(RESOLUTIONS[0]!.sizeMs);
  for (let tenant = 0; tenant < GROUPS_MAX; tenant++) {
    const route = ENDPOINTS[tenant % ENDPOINTS.length]!;
    bucket.add(atMs, { tenant: tenantOf(tenant), model: MODEL, route }, countsOfMany(requests / GROUPS_MAX));
  }
  return bucket;
}

function countsOfMany(count: number): Counts {
  const sum = noCounts();
  const one = countsOf('completed', { usage: USAGE, ttftMs: TIMINGS.ttftMs }, 139);
  for (let i = 0; i < count; i++) addCounts(sum, one);
  return sum;
}

const tenantOf = (tenant: number): string => tenant.toString(16).padStart(16, '0');

function requestOf(i: number): RequestRecord {
  return {
    id: `cmpl-${i}`,
    requestId: `req_${i}`,
    owner: '',
    wallMs: 0,
    endpoint: ENDPOINTS[i % ENDPOINTS.length]!,
    tenant: tenantOf(i % GROUPS_MAX),
    model: MODEL,
    outcome: 'completed',
    report: { usage: USAGE, timings: TIMINGS, choices: 1 },
  };
}

async function readAll(
  statistics: Statistics,
  history: History,
  reads: number,
): Promise<HistoryBench['reads']> {
  const service: CompletionService = {
    model: { id: MODEL, created: 0, contextTokens: 0 },
    ready: () => ({ ready: true }),
    complete: () => {
      throw new Error('nothing is completed here');
    },
  };
  const app = createApp({ service, statistics, history });
  const server = await startServer({ app, host: '127.0.0.1', port: 0, shutdownTimeoutMs: 1000 });
  try {
    const timed: Record<string, ReadTimes> = {};
    for (const path of PATHS) {
      await readTimes(server.url + path, statistics, Math.ceil(reads / 10));
      const before = process.cpuUsage();
      const { median: medianMs, p99: p99Ms } = summary(await readTimes(server.url + path, statistics, reads));
      const { user, system } = process.cpuUsage(before);
      timed[path] = { medianMs, p99Ms, cpuMs: (user + system) / 1000 / reads };
    }
    return timed;
  } finally {
    await server.close();
  }
}

async function readTimes(url: string, statistics: Statistics, reads: number): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < reads; i++) {
    for (let ended = 0; ended < BETWEEN; ended++) statistics.record(requestOf(i * BETWEEN + ended));
    const start = performance.now();
    const response = await fetch(url);
    await response.arrayBuffer();
    times.push(performance.now() - start);
    if (response.status !== 200) throw new Error(`${url} answered ${response.status}`);
  }
  return times;
}

function recordTime(statistics: Statistics): number {
  const count = 200_000;
  const requests = Array.from({ length: GROUPS_MAX }, (_, i) => requestOf(i));
  const rounds = Array.from({ length: 5 }, () => {
    const start = performance.now();
    for (let i = 0; i < count; i++) statistics.record(requests[i % GROUPS_MAX]!);
    return ((performance.now() - start) * 1e6) / count;
  });
  return Math.round(median(rounds));
}

function summary(times: readonly number[]): { readonly median: number; readonly p99: number } {
  return { median: median(times), p99: quantileOf(times, 0.99) };
}
