/**
 * Chunks as one stream of bytes that another machine can take in: an archive.
 *
 * | part | bytes | content |
 * |---|---|---|
 * | header | 8 | `RKVARCH` and a zero byte |
 * | | 2 | format version, 1, uint16 |
 * | | 2 | 0 |
 * | | 4 | bytes of the description, uint32 |
 * | | | the description, JSON |
 * | each chunk | | its file (chunk-head.ts), behind that of the chunk before it |
 * | trailer | 8 | `RKVEND` and two zero bytes |
 * | | 8 | number of chunks, uint64 |
 * | | 32 | SHA-256 of all bytes before |
 *
 * All numbers are little-endian. A chunk's namespace is a label that means something to who made the archive and who
 * takes it in; its key follows from label, parent and tokens, as that of any chunk, so that keys of a tenant are in no
 * archive. Chunks are believed one by one, by key and checksum; under an encryption key they are sealed one by one too,
 * so that nobody without it can make one. The hash of the whole guards against accidents alone.
 */
import type { Checksum } from '../checksum.js';
import type { ChunkCipher } from '../disk/chunk-cipher.js';
import { ChunkFormat } from '../disk/chunk-format.js';
import type { ChunkKey } from '../key.js';
import type { KvLayout } from '../layout.js';

export const ARCHIVE_MAGIC = Buffer.from('RKVARCH\0');
export const TRAILER_MAGIC = Buffer.from('RKVEND\0\0');
export const ARCHIVE_VERSION = 1;
export const ARCHIVE_HEADER_BYTES = 16;
export const COUNT_BYTES = 8;
export const HASH_BYTES = 32;

/** What is said of an archive as a whole. Nothing of it is verified but by what its chunks are. */
export interface ArchiveDescription {
  /** In words. */
  readonly model: string;
  /** Of model and KV layout, 64 hex digits. */
  readonly fingerprint: string;
  /** Of the encryption key, 16 hex digits; zeros without. */
  readonly keyId: string;
  /** What labels mean, and where chunks were computed: of who makes archives. */
  readonly scope: string;
  readonly processor: string;
  /** There are at most so many. */
  readonly chunksMax: number;
}

/** A chunk of an archive: `key` and `parent` are those in it. */
export interface ArchivedChunk {
  readonly key: ChunkKey;
  readonly parent: ChunkKey | undefined;
  readonly label: string;
  readonly tokens: Int32Array;
  /** Exactly what was computed; false: it came through a lossy codec. */
  readonly isExact: boolean;
  /** XXH64 of its bytes. */
  readonly checksum: bigint;
  /** Its bytes, until the next one is read. */
  readonly bytes: Uint8Array;
}

export interface ArchiveLimits {
  /** Of the whole. */
  readonly bytesMax: number;
  readonly chunksMax: number;
  readonly descriptionBytesMax: number;
  readonly labelBytesMax: number;
}

/**
 * - `not_an_archive` it does not begin like one of this version
 * - `other_model` of another model or KV layout
 * - `other_key` sealed under another encryption key
 * - `too_large` beyond a limit
 * - `truncated` it ends before its end
 * - `corrupt` something does not match
 */
export type ArchiveFault =
  | 'not_an_archive'
  | 'other_model'
  | 'other_key'
  | 'too_large'
  | 'truncated'
  | 'corrupt';

export class ArchiveError extends Error {
  readonly fault: ArchiveFault;

  constructor(fault: ArchiveFault, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'ArchiveError';
    this.fault = fault;
  }
}

/** What archives are of. */
export interface ArchiveSubject {
  /** The model's, as in the keys of its chunks. */
  readonly fingerprint: string;
  readonly layout: KvLayout;
  readonly checksum: Checksum;
}

/** The format of the chunks of an archive: lossless, sealed where there is a cipher. */
export function archivedFormat(subject: ArchiveSubject, cipher: ChunkCipher | undefined): ChunkFormat {
  return new ChunkFormat({ ...subject, codec: subject.layout.dtype, cipher });
}
