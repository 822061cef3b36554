/**
 * How well eviction policies do on a recorded trace of conversations and on made-up traffic of other kinds: the share
 * of blocks that hit, beside what an unbounded cache would reach and what is possible at each capacity.
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { POLICY_NAMES, type PolicyName } from '#storage';
import { belady, hitRate, replay } from './replay.js';
import { type Requests, TRAFFIC_KINDS, traffic } from './traffic.js';

const TRACE = fileURLToPath(
  new URL('../../../shared/data/mooncake_conversation_trace.jsonl', import.meta.url),
);
const TRACE_BLOCKS = [1000, 5000, 10_000, 30_000];
const TRAFFIC_BLOCKS = [300, 1000, 3000];
const TRAFFIC_REQUESTS = 4000;
const COMPARED: readonly PolicyName[] = ['lru', 'adaptive'];

export interface TraceBench {
  readonly trace?: {
    readonly requests: number;
    readonly ideal: number;
    /** By policy, or `belady`: hit rates by capacity in blocks. */
    readonly rates: Readonly<Record<string, Readonly<Record<number, number>>>>;
    /** The same of the first and the second half of the requests, where the second begins with what the first left. */
    readonly halves: Readonly<Record<string, Readonly<Record<number, readonly number[]>>>>;
  };
  /** By kind, capacity in blocks and policy: hit rates. */
  readonly traffic: Readonly<Record<string, Readonly<Record<number, Readonly<Record<string, number>>>>>>;
}

/** The requests of a trace in the format of Mooncake's: JSON lines with `hash_ids`, one id for each block. */
export function readTrace(path: string): Requests {
  const lines = readFileSync(path, 'utf8').split('\n').filter(Boolean);
  return lines.map((line) => {
    const request: { hash_ids: number[] } = JSON.parse(line);
    return Int32Array.from(request.hash_ids);
  });
}

/** Runs the benchmark (about five minutes) and prints its tables. `path`: another trace of the same format. */
export function traceBench(options: { readonly path?: string; readonly quick: boolean }): TraceBench {
  const path = options.path ?? TRACE;
  const isThere = existsSync(path);
  if (!isThere) console.error(`skipped: there is no trace at ${path}`);
  return {
    ...(isThere && { trace: benchTrace(readTrace(path), options.quick ? COMPARED : POLICY_NAMES) }),
    traffic: benchTraffic(options.quick ? 1000 : TRAFFIC_REQUESTS),
  };
}

function benchTrace(requests: Requests, policies: readonly PolicyName[]): NonNullable<TraceBench['trace']> {
  const blocks = requests.reduce((sum, request) => sum + request.length, 0);
  const ideal = hitRate(...replay(requests, { policy: 'lru', capacityBlocks: blocks }));
  const rates: Record<string, Record<number, number>> = {};
  const halves: Record<string, Record<number, number[]>> = {};
  printRow('', [...TRACE_BLOCKS.map((capacity) => `${capacity} blocks`), 'unbounded']);
  for (const policy of policies) {
    rates[policy] = {};
    halves[policy] = {};
    for (const capacityBlocks of TRACE_BLOCKS) {
      const counts = replay(requests, { policy, capacityBlocks });
      rates[policy][capacityBlocks] = hitRate(...counts);
      halves[policy][capacityBlocks] = counts.map((count) => hitRate(count));
    }
    printRow(policy, [...Object.values(rates[policy]).map(rate), rate(ideal)]);
  }
  rates.belady = {};
  for (const capacity of TRACE_BLOCKS) rates.belady[capacity] = belady(requests, capacity);
  printRow('Belady', [...Object.values(rates.belady).map(rate), rate(ideal)]);
  return { requests: requests.length, ideal, rates, halves };
}

function benchTraffic(count: number): TraceBench['traffic'] {
  printRow(
    '',
    TRAFFIC_BLOCKS.map((capacity) => `${capacity} blocks`),
  );
  const kinds: Record<string, Record<number, Record<string, number>>> = {};
  for (const kind of TRAFFIC_KINDS) {
    const requests = traffic(kind, { count, seed: 1 });
    kinds[kind] = {};
    for (const capacityBlocks of TRAFFIC_BLOCKS) {
      kinds[kind][capacityBlocks] = Object.fromEntries(
        COMPARED.map((policy) => [policy, hitRate(...replay(requests, { policy, capacityBlocks }))]),
      );
    }
    const cells = Object.values(kinds[kind]).map(({ lru, adaptive }) => `${rate(lru!)} → ${rate(adaptive!)}`);
    printRow(kind, cells);
  }
  return kinds;
}

const rate = (value: number): string => value.toFixed(4);

function printRow(name: string, cells: readonly string[]): void {
  console.log(`${name.padEnd(34)}${cells.map((cell) => cell.padStart(18)).join('')}`);
}
