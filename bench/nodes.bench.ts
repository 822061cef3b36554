/**
 * Three nodes behind the proxy: how much of the prompts they reuse when it routes by prefix, when it deals requests out
 * in turn, and what one node with the budgets of all three would reuse. Conversations of the tiny model, of which so many
 * go on at a time that together they just fit into the three nodes' memory.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { conversations, interleaved } from './nodes/conversations.js';
import { type Balance, ProxyProcess } from './nodes/proxy-process.js';
import { hitRateOf, type Replayed, replayRequests } from './nodes/replay.js';
import { ServerProcess } from './server-process.js';
import { median } from './statistics.js';
import { digits } from './table.js';
import { importTiny, TINY } from './tiny.js';

const NODES = 3;
const CHUNK_TOKENS = 16;
const CLIENTS = 6;
const MAX_TOKENS = 2;
/** Its own deadline is the time in which it could compute. */
const REMOTE_DEADLINE_MS = 2000;

interface Workload {
  readonly name: string;
  readonly conversations: number;
  /** That go on at the same time. */
  readonly live: number;
  /** Absent: as in a recorded trace. */
  readonly turns?: number;
  /** Memory of one node: three together hold the live conversations' KV a bit more than once. */
  readonly deviceMiB: number;
  readonly hostMiB: number;
}

const WORKLOADS: readonly Workload[] = [
  { name: 'chats of 12 turns', conversations: 128, live: 64, turns: 12, deviceMiB: 1, hostMiB: 3 },
  { name: 'chats as in a trace, 2.8 turns', conversations: 400, live: 160, deviceMiB: 1, hostMiB: 2 },
];

export interface NodesOptions {
  readonly rounds: number;
  /** Address of a remote tier for the nodes, such as `redis://127.0.0.1:6379`; absent: without one. */
  readonly remote?: string;
  readonly onNotice: (message: string) => void;
}

export interface NodesRow {
  readonly workload: string;
  readonly name: string;
  /** Share of prompt tokens that were reused, a round each. */
  readonly hitRates: readonly number[];
  /** Of the same round's round robin, and of its one node: ratios, a round each. */
  readonly ofRoundRobin: readonly number[];
  readonly ofOneNode: readonly number[];
  readonly medianTtftMs: number;
  /** Share of the requests that the busiest node had. */
  readonly busiestShare: number;
}

interface Setup {
  readonly name: string;
  readonly nodes: number;
  readonly balance: Balance;
  readonly remote?: string;
}

const ROUND_ROBIN = 'three nodes, round robin';
const ONE_NODE = 'one node with the budgets of three';

function setups(remote: string | undefined): Setup[] {
  const without: Setup[] = [
    { name: ROUND_ROBIN, nodes: NODES, balance: 'round-robin' },
    { name: 'three nodes, by prefix', nodes: NODES, balance: 'prefix' },
    { name: ONE_NODE, nodes: 1, balance: 'prefix' },
  ];
  if (remote === undefined) return without;
  return [
    ...without,
    { name: 'three nodes, round robin, remote tier', nodes: NODES, balance: 'round-robin', remote },
    { name: 'three nodes, by prefix, remote tier', nodes: NODES, balance: 'prefix', remote },
  ];
}

/** Each round replays other conversations on all setups, each with nodes that have nothing yet. */
export async function nodesBench(options: NodesOptions): Promise<NodesRow[]> {
  const rows: NodesRow[] = [];
  for (const workload of WORKLOADS) rows.push(...(await benchWorkload(workload, options)));
  return rows;
}

async function benchWorkload(
  workload: Workload,
  { rounds, remote, onNotice }: NodesOptions,
): Promise<NodesRow[]> {
  const results = new Map<string, Replayed[][]>();
  for (let round = 0; round < rounds; round++) {
    for (const setup of setups(remote)) {
      const replayed = await replaySetup(workload, setup, round);
      results.set(setup.name, [...(results.get(setup.name) ?? []), replayed]);
      onNotice(`${workload.name}, round ${round + 1}, ${setup.name}: ${hitRateOf(replayed).toFixed(3)}`);
    }
  }
  const ratesOf = (name: string): number[] => results.get(name)!.map(hitRateOf);
  const ratios = (rates: readonly number[], base: string): number[] =>
    rates.map((rate, round) => rate / ratesOf(base)[round]!);
  return [...results].map(([name, replays]) => ({
    workload: workload.name,
    name,
    hitRates: ratesOf(name),
    ofRoundRobin: ratios(ratesOf(name), ROUND_ROBIN),
    ofOneNode: ratios(ratesOf(name), ONE_NODE),
    medianTtftMs: median(replays.flat().map(({ ttftMs }) => ttftMs)),
    busiestShare: busiestShare(replays.flat()),
  }));
}

async function replaySetup(workload: Workload, setup: Setup, round: number): Promise<Replayed[]> {
  const place = await mkdtemp(join(tmpdir(), 'radixkv-nodes-'));
  const servers: ServerProcess[] = [];
  let proxy: ProxyProcess | undefined;
  try {
    await importTiny(join(place, 'models'));
    for (let node = 0; node < setup.nodes; node++) servers.push(spawnNode(place, node, workload, setup));
    for (const server of servers) await server.ready();
    proxy = await ProxyProcess.start({
      nodes: servers.map(({ url }) => url),
      balance: setup.balance,
      directory: place,
    });
    const scripts = conversations({ ...workload, seed: round });
    const replayed = await replayRequests(
      interleaved(scripts, { live: workload.live, seed: round }),
      // Another key is another namespace: what a remote tier holds of one setup is not seen by the next.
      { url: proxy.url, model: TINY, clients: CLIENTS, maxTokens: MAX_TOKENS, apiKey: place },
    );
    assert(replayed.every(({ status }) => status === 200));
    return replayed;
  } finally {
    await proxy?.stop();
    await Promise.all(servers.map((server) => server.kill()));
    await rm(place, { recursive: true, force: true });
  }
}

function spawnNode(
  place: string,
  node: number,
  { deviceMiB, hostMiB }: Workload,
  { nodes, remote }: Setup,
): ServerProcess {
  const share = NODES / nodes;
  return new ServerProcess(TINY, {
    'data-dir': join(place, `node-${node}`),
    'models-dir': join(place, 'models'),
    threads: 1,
    'chunk-tokens': CHUNK_TOKENS,
    'device-bytes': `${share * deviceMiB}MiB`,
    'host-bytes': `${share * hostMiB}MiB`,
    'disk-bytes': 0,
    // The tiny model computes faster than anything is read.
    'break-even': 'off',
    ...(remote !== undefined && { remote, 'remote-deadline-min-ms': REMOTE_DEADLINE_MS }),
  });
}

function busiestShare(replayed: readonly Replayed[]): number {
  const counts = new Map<string, number>();
  for (const { node } of replayed) counts.set(node, (counts.get(node) ?? 0) + 1);
  return Math.max(...counts.values()) / replayed.length;
}

function spread(values: readonly number[]): string {
  const [low, middle, high] = [Math.min(...values), median(values), Math.max(...values)];
  return `${middle.toFixed(2)} (${low.toFixed(2)}–${high.toFixed(2)})`;
}

export function nodesTable(rows: readonly NodesRow[]): string {
  const lines = rows.map(
    ({ workload, name, hitRates, ofRoundRobin, ofOneNode, medianTtftMs, busiestShare: busiest }) =>
      `| ${workload} | ${name} | ${spread(hitRates)} | ${spread(ofRoundRobin)} | ${spread(ofOneNode)} | ${digits(medianTtftMs)} ms | ${digits(100 * busiest)} % |`,
  );
  return [
    '| replay | setup | hit rate | of round robin | of one node | TTFT, median | requests of the busiest node |',
    '|---|---|---|---|---|---|---|',
    ...lines,
  ].join('\n');
}
