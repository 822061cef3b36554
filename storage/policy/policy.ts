/**
 * What decides which chunk goes first, among those that may go: an eviction policy.
 *
 * Which may go at all (leaves without lease or pin, of the lowest priority) is not its business; see residents.ts. It
 * ranks them, and the lowest rank goes first. Knows no bytes' place and no clock: order is all the time it has.
 */
import type { ChunkKey } from '../key.js';

/** A chunk as a policy sees it. */
export interface RankedChunk {
  readonly key: ChunkKey;
  readonly parent: ChunkKey | undefined;
  readonly bytes: number;
  /** Chunks before it, as far as they are known. */
  readonly depth: number;
  /** Uses since it was added, and before where the store remembers them. */
  readonly hits: number;
  /** When it was added or last used, counted in additions and uses: no two chunks have the same. */
  readonly lastUse: number;
}

/** A policy may keep chunks in two queues, each with its own order. */
export type Lane = 0 | 1;

export interface Policy {
  /** Where a chunk stands now: the lowest goes first. Changes when it is added or used, or as the tier is told. */
  rank(chunk: RankedChunk): number;

  /** The queue it stands in; absent: all are in lane 0. */
  lane?(chunk: RankedChunk): Lane;

  /** Which lane goes first now: the other one is looked at when there is nothing in it. Absent: lane 0. */
  firstLane?(): Lane;

  /** A chunk came into the tier. `isUse` is false when it was fetched for a request that tells its use later. */
  added?(chunk: RankedChunk, isUse: boolean): void;

  /** A request used a chunk. The chunks of its path are told one after another, deepest first. */
  used?(chunk: RankedChunk): void;

  /** A chunk left; `isEvicted`: to make room. */
  left?(chunk: RankedChunk, isEvicted: boolean): void;

  /** A chunk is about to be evicted. True: it got another place instead. Not for ever: its chances are counted. */
  spare?(chunk: RankedChunk): boolean;
}

/** What a policy is told of its tier, and may tell it. */
export interface PolicyTier {
  /** What it may count on as things stand, less than at first when others take their share of the tier. */
  readonly capacityBytes: number;
  /** The rank or lane of this chunk changed, by no use of its own. */
  moved(chunk: RankedChunk): void;
  /** All ranks may have changed, but no lane. O(chunks that may be evicted). */
  movedAll(): void;
}
