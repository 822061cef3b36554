/**
 * `radixkv top`: what a running server does, read over its API every two seconds. On a terminal the numbers stand still
 * and change; elsewhere each reading is a block of plain lines.
 */
import { z } from 'zod';
import {
  bytes,
  count,
  freshRates,
  HITS,
  hitShares,
  milliseconds,
  type ProcessStats,
  percent,
  rate,
  seconds,
  TIERS,
  type WindowStats,
} from '#dashboard';
import type { Clock } from '../model/clock.js';
import {
  credentials,
  endpoint,
  problemOf,
  reasonOf,
  requireAddress,
  type ServerAddress,
} from './server-address.js';
import type { Terminal } from './terminal.js';

const REFRESH_MS = 2000;
const ANSWER_TIMEOUT_MS = 5000;

const tierTokens = z.object({
  cached_tokens: z.number(),
  blended_tokens: z.number(),
  regret_tokens: z.number().nullable(),
});
const percentiles = z.object({ p50: z.number().nullable(), p90: z.number().nullable() });
const firstTokens = z.object({
  requests: z.number(),
  mean: z.number().nullable(),
  p50: z.number().nullable(),
  p95: z.number().nullable(),
});
const tierState = tierTokens.extend({
  bytes: z.number().nullable(),
  capacity_bytes: z.number().nullable(),
  evicted: z.object({ chunks: z.number(), age_seconds: percentiles, uses: percentiles }).nullable(),
});
const counts = {
  since: z.string(),
  requests: z.object({
    completed: z.number(),
    aborted: z.number(),
    failed: z.number(),
    refused: z.number(),
  }),
  prompt_tokens: z.number(),
  computed_tokens: z.number(),
  completion_tokens: z.number(),
  hit_rate: z.number().nullable(),
  saved_prefill_seconds: z.number().nullable(),
  ttft_ms: z.object({ none: firstTokens, partial: firstTokens, most: firstTokens }),
};
const windowStats: z.ZodType<WindowStats> = z.object({
  ...counts,
  by_tier: z.object({ device: tierTokens, host: tierTokens, disk: tierTokens, remote: tierTokens }),
});
const processStats: z.ZodType<ProcessStats> = z.object({
  ...counts,
  by_tier: z.object({ device: tierState, host: tierState, disk: tierState, remote: tierState }),
  radix: z.object({ nodes: z.number().nullable(), chunks: z.number().nullable() }),
});

interface Reading {
  readonly stats: ProcessStats;
  /** Undefined: the server keeps no statistics over time, or can't read them. */
  readonly minute: WindowStats | undefined;
  /** By the server's clock. */
  readonly nowMs: number;
}

/**
 * Shows a reading every two seconds, or one with `once`. A server that does not answer is noted, and asked again.
 * @returns with `once`, whether it answered
 * @throws RadixkvError `invalid_value` for what is no address
 */
export async function runTop(
  address: ServerAddress,
  { once, clock }: { readonly once: boolean; readonly clock: Clock },
  terminal: Terminal,
): Promise<boolean> {
  requireAddress(address);
  for (;;) {
    const answered = await show(address, terminal);
    if (once) return answered;
    await clock.sleep(REFRESH_MS);
  }
}

async function show(address: ServerAddress, terminal: Terminal): Promise<boolean> {
  try {
    terminal.frame(topLines(address.url, await read(address)));
    return true;
  } catch (error) {
    terminal.note(`radixkv: ${address.url} can't be read: ${reasonOf(error)}`);
    return false;
  }
}

async function read(address: ServerAddress): Promise<Reading> {
  const stats = await ask(address, 'v1/cache/stats', processStats);
  const minute = await ask(address, 'v1/cache/stats?window=1m', windowStats).catch(() => undefined);
  return { stats: stats.body, minute: minute?.body, nowMs: minute?.nowMs ?? stats.nowMs };
}

async function ask<Body>(address: ServerAddress, path: string, schema: z.ZodType<Body>) {
  const response = await fetch(endpoint(address, path), {
    signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    headers: credentials(address),
  });
  const body: unknown = await response.json().catch(() => undefined);
  if (!response.ok) throw new Error(problemOf(response.status, body));
  const parsed = schema.safeParse(body);
  if (!parsed.success) throw new Error('it does not answer like radixkv');
  const told = Date.parse(response.headers.get('date') ?? '');
  return { body: parsed.data, nowMs: Number.isNaN(told) ? Date.now() : told };
}

function line(...cells: readonly string[]): string {
  return cells.map((cell, i) => (i === 0 ? cell.padEnd(10) : cell.padStart(12))).join('');
}

/** The numbers as lines, without control characters. */
function topLines(url: string, { stats, minute, nowMs }: Reading): string[] {
  const all = hitShares(stats);
  const fresh = minute && hitShares(minute);
  const rates = minute && freshRates(minute, nowMs);
  const requests = Object.entries(stats.requests).map(([outcome, number]) => `${count(number)} ${outcome}`);
  return [
    `radixkv at ${url}, since ${stats.since}`,
    '',
    line('tier', 'hits, 1 min', 'hits, all', 'used', 'budget', 'share'),
    ...TIERS.map((tier) => {
      const { bytes: used, capacity_bytes: budget } = stats.by_tier[tier];
      const share = used !== null && budget ? used / budget : null;
      return line(
        tier,
        percent(fresh?.[tier]),
        percent(all[tier]),
        bytes(used),
        bytes(budget),
        percent(share),
      );
    }),
    line('all', percent(minute?.hit_rate), percent(stats.hit_rate)),
    '',
    line('evicted', 'chunks', 'after, p50', 'p90', 'uses, p50', 'regret'),
    ...TIERS.map((tier) => {
      const { evicted, regret_tokens: regret } = stats.by_tier[tier];
      const { p50, p90 } = evicted?.age_seconds ?? { p50: null, p90: null };
      const uses = count(evicted?.uses.p50);
      return line(tier, count(evicted?.chunks), seconds(p50), seconds(p90), uses, count(regret));
    }),
    '',
    line('TTFT, hit', 'requests', 'p50, 1 min', 'p50, all', 'p95, all'),
    ...HITS.map((hit) => {
      const { requests: answered, p50, p95 } = stats.ttft_ms[hit];
      const lately = milliseconds(minute?.ttft_ms[hit].p50);
      return line(hit, count(answered), lately, milliseconds(p50), milliseconds(p95));
    }),
    '',
    `tokens/s  ${rate(rates?.promptTokensPerS)} prompt, ${rate(rates?.completionTokensPerS)} answer`,
    `requests  ${rate(rates?.requestsPerS)} /s; ${requests.join(', ')}`,
    `saved     ${seconds(stats.saved_prefill_seconds)} of prefill`,
    `tree      ${count(stats.radix.nodes)} nodes, ${count(stats.radix.chunks)} chunks`,
  ];
}
