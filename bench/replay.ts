/**
 * Replays requests through the cache as it is, radix tree and stores, with sizes only; and what could be had at best.
 *
 * One token stands for one block, and a chunk is one token. A block counts as hit while the prefix is unbroken.
 */
import FlatQueue from 'flatqueue';
import { createChecksum, HostStore, kvLayout, type PolicyName, TieredStore } from '#storage';
import { PrefixCache } from '../src/cache/prefix-cache.js';
import type { Requests } from './traffic.js';

const LAYOUT = kvLayout({ layers: 1, kvHeads: 1, headDim: 1, chunkTokens: 1, dtype: 'float16' });
const checksum = await createChecksum();

export interface ReplayOptions {
  readonly policy: PolicyName;
  readonly capacityBlocks: number;
}

export interface HitCount {
  hits: number;
  blocks: number;
}

/** What hit, in each half of the requests. */
export function replay(requests: Requests, { policy, capacityBlocks }: ReplayOptions): [HitCount, HitCount] {
  const { chunkBytes } = LAYOUT;
  const cache = new PrefixCache({
    layout: LAYOUT,
    fingerprint: 'replay',
    store: ({ evict, tierEvict }) =>
      new TieredStore({
        host: (onEvict) =>
          new HostStore({
            chunkBytes,
            capacityBytes: capacityBlocks * chunkBytes,
            checksum,
            clock: { now: () => 0 },
            policy,
            onEvict,
          }),
        writePolicy: 'write-back',
        writeHits: 1,
        onEvict: evict,
        onTierEvict: tierEvict,
      }),
  });
  const halves: [HitCount, HitCount] = [
    { hits: 0, blocks: 0 },
    { hits: 0, blocks: 0 },
  ];
  for (const [i, request] of requests.entries()) {
    const half = halves[i < requests.length / 2 ? 0 : 1];
    half.hits += ask(cache, request);
    half.blocks += request.length;
  }
  return halves;
}

/** The share of blocks that hit. */
export function hitRate(...counts: readonly HitCount[]): number {
  const sum = (of: (count: HitCount) => number): number => counts.reduce((all, count) => all + of(count), 0);
  return sum(({ hits }) => hits) / sum(({ blocks }) => blocks);
}

/** What a request does to the cache; the blocks that it finds. */
function ask(cache: PrefixCache, request: Int32Array): number {
  const lease = cache.acquire('', request, 'whole chunks');
  cache.use(lease.found);
  const chunks = cache.reserve('', request, lease);
  cache.commit('', request, { lease, chunks, checksums: chunks.map(() => 0n) });
  cache.release(lease);
  return lease.found.length;
}

/** Each block of each request by a number of its own; a block's number is above that of the one before it. */
function numbered(requests: Requests): { readonly paths: readonly Int32Array[]; readonly blocks: number } {
  const numbers = new Map<string, number>();
  const paths = requests.map((request) => {
    let parent = -1;
    return request.map((id) => {
      const name = `${parent} ${id}`;
      parent = numbers.get(name) ?? numbers.size;
      numbers.set(name, parent);
      return parent;
    });
  });
  return { paths, blocks: numbers.size };
}

/** Who knows the future keeps what is used soonest, and takes in only that: the share of blocks that hit. */
export function belady(requests: Requests, capacityBlocks: number): number {
  const { paths, blocks } = numbered(requests);
  const uses: number[][] = Array.from({ length: blocks }, () => []);
  for (let i = paths.length - 1; i >= 0; i--) for (const block of paths[i]!) uses[block]!.push(i);
  /** Of what is held: when it is used next; later blocks of a path are used no sooner. */
  const nextUse = new Map<number, number>();
  /** Furthest first; holds outdated entries too. */
  const furthest = new FlatQueue();
  let hits = 0;
  for (const path of paths) {
    for (const [depth, block] of path.entries()) {
      uses[block]!.pop();
      const isHit = nextUse.has(block);
      if (isHit) hits++;
      const next = (uses[block]!.at(-1) ?? paths.length) + depth / 2 ** 20;
      if (!isHit && nextUse.size === capacityBlocks) {
        while (nextUse.get(furthest.peek()!) !== -furthest.peekValue()!) furthest.pop();
        if (-furthest.peekValue()! <= next) continue;
        nextUse.delete(furthest.pop()!);
      }
      nextUse.set(block, next);
      furthest.push(block, -next);
    }
  }
  return hits / paths.reduce((sum, path) => sum + path.length, 0);
}
