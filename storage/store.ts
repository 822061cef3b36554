/**
 * The interface of a tier: a bounded place that keeps the bytes of KV chunks by key.
 *
 * Holds for every tier (the contract suite tests it):
 * - S1 a sealed chunk never changes, and any flipped bit is detected at `read`.
 * - S2 a read for one key never yields another chunk's bytes.
 * - S3 `usedBytes` is the sum over the chunks present, at most `capacityBytes`.
 * - The least recently used chunk without a lease is evicted first; a leased one never.
 * - Every chunk that leaves is reported once, with a reason.
 * - A closed store answers every call, as if it were empty and full.
 *
 * Outcomes that a cache must live with (missing, corrupt, full, closed) are values, never errors: a cache degrades.
 * Misuse (a release without a lease, a buffer of the wrong length) is an assertion.
 */
import type { ChunkKey } from './key.js';

/**
 * Why a chunk left:
 * - `capacity` evicted to make room
 * - `deleted`  removed on request
 * - `corrupt`  its bytes failed verification
 * - `closed`   the store was closed and keeps nothing
 */
export type EvictReason = 'capacity' | 'deleted' | 'corrupt' | 'closed';

/** Called once for each chunk that left, when it can no longer be found. Must not call the store. */
export type OnEvict = (key: ChunkKey, reason: EvictReason) => void;

/** Only after `hit` may the buffer be used. A `corrupt` chunk is gone. */
export type ReadOutcome = 'hit' | 'missing' | 'corrupt' | 'closed';

/** `present`: the key is stored or being written, and stays as it is. `full`: leases leave no room for it. */
export type WriteOutcome = 'stored' | 'present' | 'full' | 'closed';

export interface ChunkStore {
  readonly state: 'open' | 'closed';
  /** Bytes of one chunk: every chunk of a store has the same length. */
  readonly chunkBytes: number;
  readonly usedBytes: number;
  readonly capacityBytes: number;

  /** Whether a read is likely to hit. Does not count as a use. */
  has(key: ChunkKey): Promise<boolean>;

  /** Copies a chunk into `into` (`chunkBytes` long) and verifies it there. Counts as a use. */
  read(key: ChunkKey, into: Uint8Array): Promise<ReadOutcome>;

  /** Keeps a copy of `bytes` (`chunkBytes` long), evicting others if need be. */
  write(key: ChunkKey, bytes: Uint8Array): Promise<WriteOutcome>;

  /** Makes a chunk unreadable at once; its bytes go when its leases end. Whether it was there. */
  remove(key: ChunkKey, reason?: 'deleted' | 'corrupt'): boolean;

  /**
   * Makes chunks the most recently used. `keys` are a path, deepest chunk first, so that a parent outlives its
   * children; keys that are not here are skipped.
   */
  touch(keys: readonly ChunkKey[]): void;

  /** Keeps a chunk from eviction until released as many times; false when it is not here. */
  lease(key: ChunkKey): boolean;

  /** Ends one lease; the last one makes the chunk the most recently used, so release a path deepest first. */
  release(key: ChunkKey): void;

  /** Resolves when nothing is running any more. Leases may still be released. Again: no effect. */
  close(): Promise<void>;
}
