/**
 * What decides which chunk goes first, among those that may go: an eviction policy.
 *
 * Leaves, leases, pins and priorities are not its business (see residents.ts): it gives every chunk a rank, and of
 * the chunks that may go the lowest rank goes first. Knows no bytes' place and no clock: order is all the time it has.
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
  /** Set by the policy; only `added` and `used` change it, and only of the chunk they are called for. */
  rank: number;
}

export interface Policy {
  /** A chunk came into the tier. */
  added(chunk: RankedChunk): void;
  /** A request used a chunk. The chunks of its path are told one after another, deepest first. */
  used(chunk: RankedChunk): void;
  /** A chunk left, for whatever reason. */
  left(chunk: RankedChunk): void;
}
