/**
 * What owns the files of the disk tier, as the store sees it: on another thread (disk-thread.ts) or on this one
 * (local-backend.ts).
 *
 * Calls are answered, never rejected, once `load` is done: what goes wrong is an outcome. When the backend itself is
 * lost (its thread died, its catalogue broke), `onLost` is called once, reads are answered `unavailable` and writes
 * `failed`, and only `close` is of use.
 */
import type { ChunkKey } from '../key.js';
import type { ChunkIdentity } from '../store.js';
import type { ChunkUsage, UsageOf } from './catalogue.js';
import type { ChunkDraft } from './chunk-format.js';

/** A chunk that was on the disk already. */
export interface LoadedChunk extends ChunkIdentity {
  /** False for a chunk of another model, layout or encryption key, without tokens: it only takes room. */
  readonly isOwn: boolean;
  readonly isExact: boolean;
  readonly fileBytes: number;
  readonly createdAtMs: number;
  readonly usage: ChunkUsage;
}

/** What a start had to mend. */
export interface LoadReport {
  /** Rows whose file is gone, whose parent is gone, or that are not true. */
  readonly droppedRows: number;
  /** Files without a row that were taken back into the catalogue. */
  readonly orphansAdopted: number;
  /** Files without a row, and files that were never finished, that were deleted. */
  readonly orphansCollected: number;
  /** Whether the catalogue was corrupt, set aside, and made anew from the files. */
  readonly isRebuilt: boolean;
  readonly freeBytes: number | undefined;
}

export interface WriteRequest {
  readonly draft: ChunkDraft;
  readonly usage: ChunkUsage;
  /** Not changed before the answer. */
  readonly bytes: Uint8Array;
}

/** `corrupt`: the bytes did not match the checksum given. `noSpace`: the volume is full. */
export type WriteResult =
  | { readonly outcome: 'stored'; readonly fileBytes: number; readonly isExact: boolean }
  | { readonly outcome: 'corrupt' | 'noSpace' | 'failed' };

/** `missing`: there is no such file any more. `failed`: it could not be read. */
export type ReadResult =
  | { readonly outcome: 'hit'; readonly checksum: bigint }
  | { readonly outcome: 'missing' | 'corrupt' | 'failed' | 'unavailable' };

export interface DiskBackend {
  /** To be called first, and once. `onLoaded` gets all chunks, each after its parent. Rejects when it is lost. */
  load(onLoaded: (chunks: readonly LoadedChunk[]) => void): Promise<LoadReport>;
  /** Into `into`, verified there. */
  read(key: ChunkKey, into: Uint8Array): Promise<ReadResult>;
  write(request: WriteRequest): Promise<WriteResult>;
  /** Removes rows and files, in order with writes. */
  remove(keys: readonly ChunkKey[]): void;
  /** Keeps what is known of uses, for the next start. */
  use(uses: readonly UsageOf[]): void;
  /** Of the volume; undefined when it can't be told. */
  freeBytes(): Promise<number | undefined>;
  /** When all that was asked for is done. */
  close(): Promise<void>;
}

export interface BackendListener {
  readonly onLost: (error: Error) => void;
  /** The disk refused something that nobody waits for; the next start mends it. */
  readonly onTrouble: () => void;
}

export interface OpenOptions extends BackendListener {
  /** Don't trust the catalogue: it broke in use. */
  readonly isCatalogueLost: boolean;
}

/** Opens a directory. @throws DiskError */
export type OpenBackend = (options: OpenOptions) => Promise<DiskBackend>;
