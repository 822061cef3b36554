/**
 * The head of a chunk's file: header and meta, and after it comes the payload. Little-endian.
 *
 * | offset | bytes | header                                                                    |
 * |--------|-------|---------------------------------------------------------------------------|
 * | 0      | 8     | `RADIXKV` and a zero byte                                                 |
 * | 8      | 8     | XXH64 of the head from byte 16 on, as stored                              |
 * | 16     | 2     | format version, 1                                                         |
 * | 18     | 2     | codec id                                                                  |
 * | 20     | 4     | flags: 1 meta and payload are encrypted, 2 the KV is exactly as computed  |
 * | 24     | 4     | bytes of the meta                                                         |
 * | 28     | 4     | bytes of the payload                                                      |
 * | 32     | 4     | bytes of the chunk when decoded                                           |
 * | 36     | 4     | 0                                                                         |
 * | 40     | 8     | created, milliseconds since the epoch, float64                            |
 * | 48     | 32    | key                                                                       |
 * | 80     | 32    | key of the parent, zeros at position 0                                    |
 * | 112    | 32    | fingerprint of model and KV layout                                        |
 * | 144    | 8     | id of the encryption key, zeros without                                   |
 * | 152    | 8     | XXH64 of the decoded chunk                                                |
 * | 160    | 28    | seal of the meta (see chunk-cipher.ts; its context is [16, 160)), or zeros |
 * | 188    | 28    | seal of the payload, likewise                                             |
 *
 * Meta: bytes of the namespace (4), namespace (UTF-8), tokens (int32 each). Payload: the chunk as its codec wrote it.
 *
 * A head is believed when its checksum holds. Knows neither keys of encryption nor codecs.
 */
import type { Checksum } from '../checksum.js';
import { type ChunkKey, chunkKeyOf } from '../key.js';
import type { ChunkIdentity } from '../store.js';
import { SEAL_BYTES } from './chunk-cipher.js';

const MAGIC = Buffer.from('RADIXKV\0');
const VERSION = 1;
const ENCRYPTED = 1;
const EXACT = 2;

export const HEADER_BYTES = 216;
const META_BYTES_MAX = 1 << 20;

const CHECKED_FROM = 16;
const META_SEAL_AT = 160;
const PAYLOAD_SEAL_AT = META_SEAL_AT + SEAL_BYTES;
const NO_KEY = Buffer.alloc(32);

/** What must agree between the catalogue and a file. */
export interface StoredFile {
  readonly key: ChunkKey;
  readonly fileBytes: number;
  readonly codecId: number;
  /** Whether the KV is exactly what was computed. */
  readonly isExact: boolean;
}

/** What a head says, beside the meta. */
export interface ChunkHead extends StoredFile {
  readonly parent: ChunkKey | undefined;
  /** Of model and KV layout. */
  readonly fingerprint: Buffer;
  /** Of the encryption key; zeros without. */
  readonly keyId: Buffer;
  readonly createdAtMs: number;
  /** When decoded. */
  readonly chunkBytes: number;
  /** XXH64 of the decoded chunk. */
  readonly checksum: bigint;
}

/** The parts of a head that are written when the rest is there. */
export interface SealedParts {
  readonly meta: Uint8Array;
  /** Absent without encryption. */
  readonly seals?: { readonly meta: Buffer; readonly payload: Buffer };
}

/** A head without meta, seals and checksum, of the right length; `completeHead` next. */
export function beginHead(
  head: Omit<ChunkHead, 'fileBytes'>,
  bytes: { meta: number; payload: number },
): Buffer {
  const header = Buffer.alloc(HEADER_BYTES + bytes.meta);
  MAGIC.copy(header);
  header.writeUInt16LE(VERSION, 16);
  header.writeUInt16LE(head.codecId, 18);
  const isEncrypted = head.keyId.some((byte) => byte !== 0);
  header.writeUInt32LE((isEncrypted ? ENCRYPTED : 0) | (head.isExact ? EXACT : 0), 20);
  header.writeUInt32LE(bytes.meta, 24);
  header.writeUInt32LE(bytes.payload, 28);
  header.writeUInt32LE(head.chunkBytes, 32);
  header.writeDoubleLE(head.createdAtMs, 40);
  header.write(head.key, 48, 'hex');
  header.write(head.parent ?? '', 80, 'hex');
  head.fingerprint.copy(header, 112);
  head.keyId.copy(header, 144);
  header.writeBigUInt64LE(head.checksum, 152);
  return header;
}

export function completeHead(head: Buffer, { meta, seals }: SealedParts, checksum: Checksum): void {
  head.set(meta, HEADER_BYTES);
  seals?.meta.copy(head, META_SEAL_AT);
  seals?.payload.copy(head, PAYLOAD_SEAL_AT);
  head.writeBigUInt64LE(checksum(head.subarray(CHECKED_FROM)), 8);
}

/** The bytes of a head that its seals are bound to. */
export function sealContext(head: Buffer): Buffer {
  return head.subarray(CHECKED_FROM, META_SEAL_AT);
}

/** What a head carries for those who can open it. `head` may be longer than it is. */
export function sealedParts(head: Buffer): Required<SealedParts> & { readonly isEncrypted: boolean } {
  return {
    meta: head.subarray(HEADER_BYTES, headBytesOf(head)),
    seals: {
      meta: head.subarray(META_SEAL_AT, PAYLOAD_SEAL_AT),
      payload: head.subarray(PAYLOAD_SEAL_AT, HEADER_BYTES),
    },
    isEncrypted: (head.readUInt32LE(20) & ENCRYPTED) !== 0,
  };
}

/** What a sound head says; undefined when it isn't one. `head` may be longer than it is. */
export function parseHead(head: Buffer, checksum: Checksum): ChunkHead | undefined {
  const headBytes = headBytesOf(head);
  if (headBytes === undefined || headBytes > head.byteLength) return undefined;
  const own = head.subarray(0, headBytes);
  if (own.readBigUInt64LE(8) !== checksum(own.subarray(CHECKED_FROM))) return undefined;
  const parent = own.subarray(80, 112);
  return {
    key: chunkKeyOf(own.toString('hex', 48, 80)),
    parent: parent.equals(NO_KEY) ? undefined : chunkKeyOf(parent.toString('hex')),
    fingerprint: own.subarray(112, 144),
    keyId: own.subarray(144, 152),
    codecId: own.readUInt16LE(18),
    isExact: (own.readUInt32LE(20) & EXACT) !== 0,
    createdAtMs: own.readDoubleLE(40),
    fileBytes: headBytes + own.readUInt32LE(28),
    chunkBytes: own.readUInt32LE(32),
    checksum: own.readBigUInt64LE(152),
  };
}

/** The length of a head by its header; undefined when it isn't one of this version. */
export function headBytesOf(header: Buffer): number | undefined {
  if (header.byteLength < HEADER_BYTES || !header.subarray(0, 8).equals(MAGIC)) return undefined;
  if (header.readUInt16LE(16) !== VERSION) return undefined;
  const headBytes = HEADER_BYTES + header.readUInt32LE(24);
  return isHeadLength(headBytes) ? headBytes : undefined;
}

export function isHeadLength(bytes: number): boolean {
  return bytes >= HEADER_BYTES && bytes <= HEADER_BYTES + META_BYTES_MAX;
}

/** The length of a chunk's file. */
export function fileBytesOf({ namespace, tokens }: ChunkIdentity, payloadBytes: number): number {
  return HEADER_BYTES + 4 + Buffer.byteLength(namespace) + tokens.byteLength + payloadBytes;
}

export function encodeMeta(chunk: ChunkIdentity): Buffer {
  const { namespace, tokens } = chunk;
  const length = Buffer.alloc(4);
  length.writeUInt32LE(Buffer.byteLength(namespace));
  return Buffer.concat([
    length,
    Buffer.from(namespace),
    new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength),
  ]);
}

export function parseMeta(meta: Buffer): Pick<ChunkIdentity, 'namespace' | 'tokens'> | undefined {
  if (meta.byteLength < 4) return undefined;
  const tokensAt = 4 + meta.readUInt32LE(0);
  if (tokensAt > meta.byteLength) return undefined;
  const tokens = tokensIn(meta.subarray(tokensAt));
  return tokens && { namespace: meta.toString('utf8', 4, tokensAt), tokens };
}

/** Tokens in bytes: a view where the memory allows it, else a copy. */
export function tokensIn({ buffer, byteOffset, byteLength }: Uint8Array): Int32Array | undefined {
  if (byteLength % 4 !== 0) return undefined;
  if (byteOffset % 4 === 0) return new Int32Array(buffer, byteOffset, byteLength / 4);
  return new Int32Array(buffer.slice(byteOffset, byteOffset + byteLength));
}
