/**
 * The interface of a tier: a bounded place that keeps the bytes of KV chunks by key.
 *
 * Holds for every tier (the contract suite tests it, crossed with the states):
 * - S1 a sealed chunk never changes, and any flipped bit is detected at `read`.
 * - S2 a read for one key never yields another chunk's bytes.
 * - S3 `usedBytes` is the sum over the chunks present and being written, at most `capacityBytes`.
 * - A chunk is evicted only when it is a leaf (no chunk after it is here), not leased, not pinned. Which of these goes
 *   is the policy's choice, the lowest priority first.
 * - Every chunk that leaves is reported once, with a reason.
 * - A store that is not open answers every call, as if it were empty and full.
 *
 * Outcomes that a cache must live with (missing, corrupt, full, …) are values, never errors: a cache degrades.
 * Misuse (a release without a lease, a buffer of the wrong length) is an assertion.
 */
import type { ChunkKey } from './key.js';

/** What a chunk is, beyond its bytes. */
export interface ChunkIdentity {
  readonly key: ChunkKey;
  /** The chunk before it; undefined at position 0. */
  readonly parent: ChunkKey | undefined;
  /** Its tenant's: the salt of its key. */
  readonly namespace: string;
  readonly tokens: Int32Array;
}

/** How long and how dearly a chunk is kept, beyond what the policy does. */
export interface Retention {
  /** It leaves (`expired`) when it was not used for this long. */
  readonly ttlMs?: number;
  /** 0 to 100, default 50: all evictable chunks of a lower priority go first (those of its class, see shares.ts). */
  readonly priority?: number;
}

/**
 * Why a chunk left:
 * - `capacity` evicted to make room
 * - `quota`    evicted since its owner takes more than it may
 * - `deleted`  removed on request
 * - `expired`  not used within its TTL
 * - `corrupt`  its bytes failed verification
 * - `failed`   its bytes could not be read, or are gone
 * - `closed`   the store was closed and keeps nothing
 */
export type EvictReason = 'capacity' | 'quota' | 'deleted' | 'expired' | 'corrupt' | 'failed' | 'closed';

/** Whether a chunk left since others were to stay: the policy chose it. */
export function isEviction(reason: EvictReason): boolean {
  return reason === 'capacity' || reason === 'quota';
}

/** The life of a chunk in a tier, as it ends. */
export interface ChunkLife {
  /** By the tier's clock; of a disk also before a restart. */
  readonly createdAtMs: number;
  /** Requests that used it there. */
  readonly hits: number;
}

/** Called once for each chunk that left, when it can no longer be found. Must not call the store. */
export type OnEvict = (key: ChunkKey, reason: EvictReason, life: ChunkLife) => void;

/** Only after `hit` may the buffer be used. A `corrupt` or `failed` chunk is gone. */
export type ReadOutcome = 'hit' | 'missing' | 'corrupt' | 'failed' | 'unavailable';

/**
 * `present`: the key is stored or being written, and stays as it is. `full`: what may not be evicted leaves no room.
 * `failed`: the medium refused. `unavailable`: the store is not open.
 */
export type WriteOutcome = 'stored' | 'present' | 'full' | 'failed' | 'unavailable';

/** `missing`: one of the chunks is not here. `over budget`: pinned bytes may take only a share of a tier. */
export type PinOutcome = 'pinned' | 'missing' | 'over budget';

export interface ChunkStore {
  readonly state: 'opening' | 'open' | 'closing' | 'closed';
  /** Bytes of one chunk as callers see it: every chunk of a store has the same length. */
  readonly chunkBytes: number;
  readonly usedBytes: number;
  readonly capacityBytes: number;

  /** Whether a read is likely to hit. Does not count as a use. */
  has(key: ChunkKey): boolean;

  /** Copies a chunk into `into` (`chunkBytes` long) and verifies it there. Does not count as a use: `touch` it. */
  read(key: ChunkKey, into: Uint8Array): Promise<ReadOutcome>;

  /**
   * Keeps a copy of `bytes` (`chunkBytes` long), evicting others if need be. `bytes` must not change before this
   * resolves. Store a chunk after its parent, so that what is here is whole prefixes.
   */
  write(chunk: ChunkIdentity, bytes: Uint8Array, retention?: Retention): Promise<WriteOutcome>;

  /** Makes a chunk unreadable at once; its bytes go when its leases end. Whether it was there. */
  remove(key: ChunkKey, reason?: 'deleted' | 'corrupt' | 'failed'): boolean;

  /**
   * A request used these chunks: counts one use each, and renews their TTL and pins. `keys` are a path, deepest chunk
   * first; keys that are not here are skipped.
   */
  touch(keys: readonly ChunkKey[]): void;

  /**
   * Keeps chunks for as long and as dearly as this says from now on: what it does not say is as by default again. Their
   * TTL begins anew. Keys that are not here are skipped. Not a use.
   */
  retain(keys: readonly ChunkKey[], retention: Retention): void;

  /** Keeps a chunk from eviction until released as many times; false when it is not here. Not a use. */
  lease(key: ChunkKey): boolean;

  release(key: ChunkKey): void;

  /**
   * Keeps chunks (a path) from eviction for `ttlMs`, renewed by each use; pinning again sets the new time. All or
   * none. A pin never refuses a lease, a removal or a corrupt chunk's leaving.
   */
  pin(keys: readonly ChunkKey[], options: { readonly ttlMs: number }): PinOutcome;

  unpin(keys: readonly ChunkKey[]): void;

  /** Resolves when nothing is running any more. Leases may still be released. Again: no effect. */
  close(): Promise<void>;
}
