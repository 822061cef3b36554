/**
 * Made-up traffic of different kinds, to see what a policy does where it was not looked at.
 *
 * A request is the ids of its blocks, from position 0; equal ids after equal prefixes are the same block. The same
 * seed gives the same requests.
 */

export type Requests = readonly Int32Array[];

/** 0 ≤ x < 1. */
type Random = () => number;

/** Mulberry32. */
function randomFrom(seed: number): Random {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const below = (random: Random, end: number): number => Math.floor(random() * end);
const exponential = (random: Random, mean: number): number => -Math.log(1 - random()) * mean;

/** Ranks 0 to `count - 1`, of probability ∝ 1 / (rank + 1)^skew. */
function zipf(random: Random, count: number, skew: number): () => number {
  const sums = new Float64Array(count);
  let sum = 0;
  for (let rank = 0; rank < count; rank++) sums[rank] = sum += 1 / (rank + 1) ** skew;
  return () => {
    const at = random() * sum;
    let [low, high] = [0, count - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle]! < at) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

/** Blocks that all requests of a trace begin with, documents' blocks, and blocks that occur once. */
const SYSTEM = 2 ** 28;
const document = (name: number, blocks: number): number[] =>
  Array.from({ length: blocks }, (_, i) => name * 64 + i);
function onceSource(): (count: number) => number[] {
  let next = 2 ** 29;
  return (count) => Array.from({ length: count }, () => next++);
}

/** Requests that ask about one document each, under a common system prompt. */
function asking(count: number, blocks: number, nextDocument: (i: number) => number): number[][] {
  const once = onceSource();
  return Array.from({ length: count }, (_, i) => [SYSTEM, ...document(nextDocument(i), blocks), ...once(1)]);
}

/** Names by how long ago they were used last: new ones with probability `fresh`, else exponential of `mean`. */
function recencyNames(random: Random, fresh: number, mean: number): () => number {
  const names: number[] = [];
  let created = 0;
  return () => {
    const back = names.length - 1 - Math.floor(exponential(random, mean));
    const name = random() < fresh || back < 0 ? created++ : names.splice(back, 1)[0]!;
    names.push(name);
    return name;
  };
}

interface ChatOptions {
  readonly turns: number;
  /** Mean time between an answer and the next question, where a chat begins once per `turns`. */
  readonly think: number;
  /** All chats have `turns` turns and much the same think times; else both are memoryless. */
  readonly isUniform: boolean;
}

function chats(count: number, random: Random, { turns, think, isUniform }: ChatOptions): number[][] {
  const once = onceSource();
  const due: { at: number; blocks: number[]; left: number }[] = [];
  const requests: number[][] = [];
  let begins = 0;
  while (requests.length < count) {
    let next = due.length > 0 ? due.reduce((first, chat) => (chat.at < first.at ? chat : first)) : undefined;
    if (next === undefined || begins <= next.at) {
      next = {
        at: begins,
        blocks: [SYSTEM],
        left: isUniform ? turns : Math.ceil(exponential(random, turns)),
      };
      due.push(next);
      begins += exponential(random, turns);
    }
    next.blocks = [...next.blocks, ...once(1 + below(random, 6))];
    requests.push(next.blocks);
    next.left--;
    next.at += isUniform ? think * (0.5 + random()) : exponential(random, think);
    if (next.left === 0 || next.blocks.length > 100) due.splice(due.indexOf(next), 1);
  }
  return requests;
}

function agents(count: number, random: Random): number[][] {
  const once = onceSource();
  const start = () => ({ blocks: document(below(random, 4), 24), left: 5 + below(random, 30) });
  const sessions = Array.from({ length: 60 }, start);
  return Array.from({ length: count }, () => {
    const at = below(random, sessions.length);
    const session = sessions[at]!;
    session.blocks = [...session.blocks, ...once(1 + below(random, 3))];
    session.left--;
    if (session.left === 0) sessions[at] = start();
    return session.blocks;
  });
}

/** Takes turns between two kinds of traffic, `length` requests each. */
function alternating(a: readonly number[][], b: readonly number[][], length: number): number[][] {
  return a.map((request, i) => (Math.floor(i / length) % 2 === 0 ? request : b[i]!));
}

type Make = (count: number, random: Random) => number[][];

const zipfDocuments: Make = (count, random) => asking(count, 12, zipf(random, 2000, 0.9));
const loop: Make = (count) => asking(count, 10, (i) => i % 400);
const recency: Make = (count, random) => asking(count, 10, recencyNames(random, 0.25, 60));
const oneShot: Make = (count, random) => {
  const once = onceSource();
  return Array.from({ length: count }, () => [SYSTEM, ...once(10 + below(random, 20))]);
};

const KINDS = {
  'documents, Zipf': zipfDocuments,
  'documents, uniform': (count, random) => asking(count, 10, () => below(random, 600)),
  'documents, popularity jumps': (count, random) => {
    const rank = zipf(random, 1000, 1);
    return asking(count, 8, (i) => (rank() + Math.floor(i / 1000) * 377) % 3000);
  },
  'documents, popularity drifts': (count, random) => {
    const rank = zipf(random, 400, 0.6);
    return asking(count, 8, (i) => Math.floor(i / 20) + rank());
  },
  'documents, used twice': (count, random) => {
    const due = new Map<number, number>();
    let created = 0;
    return asking(count, 10, (i) => {
      const again = due.get(i);
      if (again !== undefined) return again;
      let at = i + 1 + Math.floor(exponential(random, 300));
      while (due.has(at)) at++;
      due.set(at, created);
      return created++;
    });
  },
  recency,
  'recency, wide': (count, random) => asking(count, 10, recencyNames(random, 0.3, 600)),
  'chats, memoryless': (count, random) => chats(count, random, { turns: 5, think: 120, isUniform: false }),
  'chats, long pauses': (count, random) => chats(count, random, { turns: 8, think: 1200, isUniform: false }),
  'chats, uniform': (count, random) => chats(count, random, { turns: 6, think: 300, isUniform: true }),
  'agents, shared prompts': agents,
  'one-shot prompts': oneShot,
  'documents among one-shot prompts': (count, random) => {
    const known = asking(count, 12, zipf(random, 300, 0.8));
    return oneShot(count, random).map((request, i) => (random() < 0.5 ? known[i]! : request));
  },
  loop,
  'loop, then a longer one': (count) =>
    asking(count, 10, (i) => (i < count / 2 ? i % 150 : 1000 + (i % 900))),
  'recency and loop by turns': (count, random) =>
    alternating(recency(count, random), loop(count, random), 1000),
  'documents and recency by turns': (count, random) =>
    alternating(zipfDocuments(count, random), asking(count, 10, recencyNames(random, 0.3, 600)), 500),
  'single blocks, Zipf': (count, random) => {
    const rank = zipf(random, 20_000, 0.8);
    return Array.from({ length: count * 8 }, () => [rank()]);
  },
  'single blocks, recency': (count, random) => {
    const name = recencyNames(random, 0.3, 1000);
    return Array.from({ length: count * 8 }, () => [name()]);
  },
} as const satisfies Readonly<Record<string, Make>>;

export const TRAFFIC_KINDS = Object.keys(KINDS);

/** About `count` requests of a kind (the kinds of single blocks give more). Throws for an unknown kind. */
export function traffic(kind: string, options: { readonly count: number; readonly seed: number }): Requests {
  const make: Make | undefined = Object.entries(KINDS).find(([name]) => name === kind)?.[1];
  if (make === undefined) throw new Error(`no such traffic: ${kind}`);
  return make(options.count, randomFrom(options.seed)).map((blocks) => Int32Array.from(blocks));
}
