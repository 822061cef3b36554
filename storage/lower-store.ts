/**
 * The interface of a tier below host memory, from which chunks are promoted into host slots and to which they are
 * demoted: what `TieredStore` needs of it beyond `ChunkStore`.
 */
import type { ChunkKey } from './key.js';
import type { ClassHolding } from './shares.js';
import type { ChunkIdentity, ChunkStore, ReadOutcome, Retention, WriteOutcome } from './store.js';

/** What a load found. The checksum is that of the bytes that now lie in the buffer; see `LowerStore.exactOf`. */
export type LoadOutcome =
  | { readonly outcome: 'hit'; readonly checksum: bigint; readonly isExact: boolean }
  | { readonly outcome: Exclude<ReadOutcome, 'hit'> };

export interface LowerStore extends ChunkStore {
  /** Resolves when what it holds can be found; rejects when that can never be. */
  readonly opened: Promise<void>;

  /** How many are here. */
  readonly chunks: number;

  /** What each class takes. */
  classes(): Record<string, ClassHolding>;

  /** What is known of a chunk that is here. */
  identity(key: ChunkKey): ChunkIdentity | undefined;

  retention(key: ChunkKey): Retention | undefined;

  /** Whether a chunk that is here is exactly what was computed, or came through a lossy codec. */
  exactOf(key: ChunkKey): boolean | undefined;

  /** Whether it is here, or is to be again when the store, which was lost, has opened again. */
  keeps(key: ChunkKey): boolean;

  /** The time that its pin is renewed for by each use; undefined when it is not pinned. */
  pinTtlMs(key: ChunkKey): number | undefined;

  /** As `read`, and gives the checksum that the host tier keeps beside the bytes. */
  load(key: ChunkKey, into: Uint8Array): Promise<LoadOutcome>;

  /**
   * As `write`, of bytes that were sealed with a checksum: bytes that do not match it any more are not stored
   * (`failed`).
   */
  store(
    chunk: ChunkIdentity,
    bytes: Uint8Array,
    options: Retention & { readonly checksum: bigint; readonly isExact: boolean },
  ): Promise<WriteOutcome>;

  /** To be called every few seconds: bounded upkeep, such as writing down how chunks were used. */
  maintain(): void;
}
