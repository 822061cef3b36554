/**
 * A passage as the cache keeps it: a sequence of its own, and how its rows are made.
 *
 * It begins with a context (text/segment-context.ts), whose rows are dropped when it is placed in a prompt, and ends
 * with padding, so that whole chunks hold it.
 */
import type { Run } from '../cache/device-runs.js';
import { type KvCache, type Prefetch, padded } from '../cache/kv-cache.js';
import { segmentNamespace } from '../cache/segment-namespace.js';
import type { Engine } from '../engine/engine.js';
import { NO_TOKENS, type Tier, type TierTokens } from './completion.js';

export interface Segment {
  readonly namespace: string;
  /** Context, own tokens, padding. */
  readonly tokens: Int32Array;
  /** The rows that are computed: all but padding. */
  readonly rows: number;
  /** The row of its first own token. */
  readonly head: number;
}

export function segmentOf(
  namespace: string,
  own: Int32Array,
  options: { readonly context: Int32Array; readonly chunkTokens: number },
): Segment {
  const { context, chunkTokens } = options;
  const rows = context.length + own.length;
  const tokens = padded(Int32Array.from([...context, ...own]), chunkTokens);
  return { namespace: segmentNamespace(namespace), tokens, rows, head: context.length };
}

/** Where the rows of a segment came from: those before `computedFrom` from a tier. */
export interface SegmentSource {
  readonly tier: Tier;
  readonly computedFrom: number;
  /** Those that were computed only since they had been evicted, in whole chunks. */
  readonly regretted: TierTokens;
}

/**
 * Brings all rows of a segment into a scratch run: from host memory what is there, else by prefill, and keeps what was
 * computed. Yields after each tile.
 *
 * @throws RadixkvError `engine_failed`.
 */
export async function* fillSegment(
  { cache, engine }: { readonly cache: KvCache; readonly engine: Engine },
  scratch: Run,
  segment: Segment,
  options: {
    readonly prefetch?: Prefetch | undefined;
    /** Rows of the next tile. */
    readonly tileTokens: () => number;
    /** How many rows are there, and what the last tile took. */
    readonly onComputed: (rows: number, ms: number) => void;
  },
): AsyncGenerator<void, SegmentSource, void> {
  const { tokens, rows } = segment;
  const { disk, remote } = await cache.refill(scratch, tokens, options.prefetch);
  const computedFrom = Math.min(scratch.length, rows);
  for (let start = computedFrom; start < rows; ) {
    const tile = tokens.slice(start, Math.min(rows, start + options.tileTokens()));
    const { ms } = await engine.call({ op: 'prefill', run: scratch.id, start, tokens: tile, samplers: [] });
    cache.prefilled(tile.length, ms);
    start += tile.length;
    options.onComputed(start, ms);
    yield;
  }
  const regretted = computedFrom < rows ? await cache.store(scratch, tokens) : NO_TOKENS;
  return { tier: remote > 0 ? 'remote' : disk > 0 ? 'disk' : 'host', computedFrom, regretted };
}
