/**
 * The file of one chunk: head (header and meta) and payload. Little-endian.
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
 * A head is believed when its checksum holds, a payload when the decoded chunk hashes to what the head says: any
 * doubt is `undefined`. The checksum is that of the slot bytes of every tier, so that a promoted chunk is hashed
 * once. Encryption hides KV, tokens and namespace; keys stay visible, so who sees the files and knows a tenant's
 * credentials can tell whether a prompt he guesses is there. Knows no paths.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { Checksum } from '../checksum.js';
import { type Codec, type CodecName, codecsOf } from '../codec.js';
import { type ChunkKey, chunkKey, chunkKeyOf } from '../key.js';
import type { KvLayout } from '../layout.js';
import type { ChunkIdentity } from '../store.js';
import { type ChunkCipher, KEY_ID_BYTES, SEAL_BYTES } from './chunk-cipher.js';

const MAGIC = Buffer.from('RADIXKV\0');
const VERSION = 1;
const ENCRYPTED = 1;
const EXACT = 2;

export const HEADER_BYTES = 216;
const META_BYTES_MAX = 1 << 20;

const CHECKED_FROM = 16;
const SEALED_CONTEXT_END = 160;
const NO_KEY = Buffer.alloc(32);
const NO_SEAL = Buffer.alloc(SEAL_BYTES);

/** A chunk to be written, beyond its bytes. */
export interface ChunkDraft extends ChunkIdentity {
  readonly createdAtMs: number;
  /** Whether the bytes are exactly what was computed: false when they came through a lossy codec before. */
  readonly isExact: boolean;
  /** XXH64 of the bytes when they were sealed, if known: bytes that changed since are not written. */
  readonly checksum?: bigint | undefined;
}

export interface ChunkFile {
  readonly parts: readonly Uint8Array[];
  readonly fileBytes: number;
  readonly codecId: number;
  readonly isExact: boolean;
}

/** What must agree between the catalogue and a file. */
export interface StoredFile {
  readonly key: ChunkKey;
  readonly fileBytes: number;
  readonly codecId: number;
  readonly isExact: boolean;
}

/** What a file is read into. */
export interface FileBuffers {
  readonly head: Buffer;
  readonly payload: Uint8Array;
}

/** What a head tells. */
export interface ChunkHead extends StoredFile {
  readonly parent: ChunkKey | undefined;
  readonly fingerprint: Buffer;
  readonly keyId: Buffer;
  readonly createdAtMs: number;
  /** Bytes of header and meta. */
  readonly headBytes: number;
  readonly chunkBytes: number;
  readonly checksum: bigint;
}

export class ChunkFormat {
  /** SHA-256 over the model's fingerprint and the KV layout. */
  readonly fingerprint: Buffer;
  readonly keyId: Buffer;
  readonly #modelFingerprint: string;
  readonly #layout: KvLayout;
  readonly #codec: Codec;
  readonly #codecs: ReadonlyMap<number, Codec>;
  readonly #checksum: Checksum;
  readonly #cipher: ChunkCipher | undefined;

  /** Asserts that the codec suits the layout. */
  constructor(options: {
    /** The model's, as in the keys of its chunks. */
    readonly fingerprint: string;
    readonly layout: KvLayout;
    /** To write with; all others of the layout are read too. */
    readonly codec: CodecName;
    readonly checksum: Checksum;
    readonly cipher?: ChunkCipher | undefined;
  }) {
    const { layout } = options;
    const codecs = codecsOf(layout);
    const codec = codecs.find((one) => one.name === options.codec);
    assert(codec !== undefined, 'the codec suits the layout');
    const shape = [layout.layers, layout.kvHeads, layout.headDim, layout.chunkTokens, layout.dtype];
    const hash = createHash('sha256').update(JSON.stringify([options.fingerprint, ...shape]));
    this.fingerprint = hash.digest();
    this.keyId = Buffer.from(options.cipher?.keyId ?? Buffer.alloc(KEY_ID_BYTES));
    this.#modelFingerprint = options.fingerprint;
    this.#layout = layout;
    this.#codec = codec;
    this.#codecs = new Map(codecs.map((one) => [one.id, one]));
    this.#checksum = options.checksum;
    this.#cipher = options.cipher;
  }

  /**
   * The file of a chunk, whose parts may lie in `bytes` (`chunkBytes` long): write them before `bytes` changes.
   * Undefined when the bytes do not match their checksum.
   */
  encode(draft: ChunkDraft, bytes: Uint8Array): ChunkFile | undefined {
    const codec = this.#codec;
    assert.equal(bytes.byteLength, this.#layout.chunkBytes);
    const given = codec.isLossless || draft.checksum !== undefined ? this.#checksum(bytes) : undefined;
    if (draft.checksum !== undefined && draft.checksum !== given) return undefined;
    let payload = bytes;
    let checksum = given;
    if (!codec.isIdentity) {
      payload = new Uint8Array(codec.encodedBytes);
      codec.encode(bytes, payload);
    }
    if (!codec.isLossless) {
      const decoded = new Uint8Array(bytes.byteLength);
      codec.decode(payload, decoded);
      checksum = this.#checksum(decoded);
    }
    assert(checksum !== undefined);
    const isExact = draft.isExact && codec.isLossless;
    const meta = metaOf(draft);
    const head = Buffer.alloc(HEADER_BYTES + meta.byteLength);
    MAGIC.copy(head);
    head.writeUInt16LE(VERSION, 16);
    head.writeUInt16LE(codec.id, 18);
    head.writeUInt32LE((this.#cipher ? ENCRYPTED : 0) | (isExact ? EXACT : 0), 20);
    head.writeUInt32LE(meta.byteLength, 24);
    head.writeUInt32LE(payload.byteLength, 28);
    head.writeUInt32LE(bytes.byteLength, 32);
    head.writeDoubleLE(draft.createdAtMs, 40);
    head.write(draft.key, 48, 'hex');
    head.write(draft.parent ?? '', 80, 'hex');
    this.fingerprint.copy(head, 112);
    this.keyId.copy(head, 144);
    head.writeBigUInt64LE(checksum, 152);
    if (this.#cipher === undefined) meta.copy(head, HEADER_BYTES);
    else {
      const context = head.subarray(CHECKED_FROM, SEALED_CONTEXT_END);
      const ofMeta = this.#cipher.seal(meta, context);
      const ofPayload = this.#cipher.seal(payload, context);
      ofMeta.seal.copy(head, 160);
      ofPayload.seal.copy(head, 188);
      ofMeta.sealed.copy(head, HEADER_BYTES);
      payload = ofPayload.sealed;
    }
    head.writeBigUInt64LE(this.#checksum(head.subarray(CHECKED_FROM)), 8);
    return {
      parts: [head, payload],
      fileBytes: head.byteLength + payload.byteLength,
      codecId: codec.id,
      isExact,
    };
  }

  /** Buffers to read a file into: its head, and its payload (right into `into`, where that needs no decoding). */
  buffersFor(stored: StoredFile, into: Uint8Array): FileBuffers | undefined {
    const codec = this.#codecs.get(stored.codecId);
    if (codec === undefined) return undefined;
    const headBytes = stored.fileBytes - codec.encodedBytes;
    if (!isHeadLength(headBytes)) return undefined;
    const isDirect = codec.isIdentity && this.#cipher === undefined;
    const payload = isDirect ? into : new Uint8Array(codec.encodedBytes);
    return { head: Buffer.alloc(headBytes), payload };
  }

  /** The checksum of the chunk, which is in `into` then; undefined when the file is not what was stored. */
  decode(stored: StoredFile, { head, payload }: FileBuffers, into: Uint8Array): bigint | undefined {
    const codec = this.#codecs.get(stored.codecId);
    const found = this.readHead(head);
    const isExpected =
      codec !== undefined &&
      found !== undefined &&
      found.key === stored.key &&
      found.fileBytes === stored.fileBytes &&
      found.codecId === stored.codecId &&
      found.isExact === stored.isExact &&
      found.chunkBytes === into.byteLength &&
      this.isOwn(found);
    if (!isExpected) return undefined;
    let encoded = payload;
    if (this.#cipher !== undefined) {
      const context = head.subarray(CHECKED_FROM, SEALED_CONTEXT_END);
      const opened = this.#cipher.open(head.subarray(188, 216), payload, context);
      if (opened === undefined) return undefined;
      encoded = opened;
    }
    if (encoded !== into) codec.decode(encoded, into);
    return this.#checksum(into) === found.checksum ? found.checksum : undefined;
  }

  /** What a sound head says; `head` may be longer. */
  readHead(head: Buffer): ChunkHead | undefined {
    const headBytes = headBytesOf(head);
    if (headBytes === undefined || headBytes > head.byteLength) return undefined;
    const own = head.subarray(0, headBytes);
    if (own.readBigUInt64LE(8) !== this.#checksum(own.subarray(CHECKED_FROM))) return undefined;
    const parent = own.subarray(80, 112);
    return {
      key: chunkKeyOf(own.toString('hex', 48, 80)),
      parent: parent.equals(NO_KEY) ? undefined : chunkKeyOf(parent.toString('hex')),
      fingerprint: own.subarray(112, 144),
      keyId: own.subarray(144, 152),
      codecId: own.readUInt16LE(18),
      isExact: (own.readUInt32LE(20) & EXACT) !== 0,
      createdAtMs: own.readDoubleLE(40),
      headBytes,
      fileBytes: headBytes + own.readUInt32LE(28),
      chunkBytes: own.readUInt32LE(32),
      checksum: own.readBigUInt64LE(152),
    };
  }

  /** Namespace and tokens in a sound head of this encryption key; undefined when they can't be had. */
  readMeta(head: Buffer): Pick<ChunkIdentity, 'namespace' | 'tokens'> | undefined {
    const sealed = head.subarray(HEADER_BYTES, headBytesOf(head));
    const isSealed = !head.subarray(160, 188).equals(NO_SEAL);
    const context = head.subarray(CHECKED_FROM, SEALED_CONTEXT_END);
    const meta = isSealed ? this.#cipher?.open(head.subarray(160, 188), sealed, context) : sealed;
    return meta && parseMeta(meta);
  }

  /** Tokens as the catalogue keeps them: sealed under the encryption key, and for this chunk only. */
  sealTokens({ key, tokens }: Pick<ChunkIdentity, 'key' | 'tokens'>): Uint8Array {
    const bytes = new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength);
    if (this.#cipher === undefined) return bytes;
    const { seal, sealed } = this.#cipher.seal(bytes, Buffer.from(key, 'hex'));
    return Buffer.concat([seal, sealed]);
  }

  /** The reverse; undefined when they can't be had. */
  openTokens(key: ChunkKey, kept: Uint8Array): Int32Array | undefined {
    const bytes = this.#cipher
      ? this.#cipher.open(kept.subarray(0, SEAL_BYTES), kept.subarray(SEAL_BYTES), Buffer.from(key, 'hex'))
      : kept;
    return bytes && tokensIn(bytes);
  }

  /** Whether a chunk is of this model, layout and encryption key. */
  isOwn(of: { readonly fingerprint: Uint8Array; readonly keyId: Uint8Array }): boolean {
    return this.fingerprint.equals(of.fingerprint) && this.keyId.equals(of.keyId);
  }

  /**
   * Whether an own chunk is what it says: its key is the one of its tokens after its parent, and its file as long as
   * one with these is. What is not must not be found.
   */
  isTrue(chunk: ChunkIdentity, file: { readonly fileBytes: number; readonly codecId: number }): boolean {
    const { key, parent, namespace, tokens } = chunk;
    const payloadBytes = this.#codecs.get(file.codecId)?.encodedBytes;
    if (payloadBytes === undefined || file.fileBytes !== fileBytesOf(chunk, payloadBytes)) return false;
    return chunkKey({ fingerprint: this.#modelFingerprint, salt: namespace, parent, tokens }) === key;
  }
}

/** The length of a chunk's file. */
export function fileBytesOf({ namespace, tokens }: ChunkIdentity, payloadBytes: number): number {
  return HEADER_BYTES + 4 + Buffer.byteLength(namespace) + tokens.byteLength + payloadBytes;
}

/** The length of a head by its header; undefined when it isn't one of this version. */
export function headBytesOf(header: Buffer): number | undefined {
  if (header.byteLength < HEADER_BYTES || !header.subarray(0, 8).equals(MAGIC)) return undefined;
  if (header.readUInt16LE(16) !== VERSION) return undefined;
  const headBytes = HEADER_BYTES + header.readUInt32LE(24);
  return isHeadLength(headBytes) ? headBytes : undefined;
}

function isHeadLength(bytes: number): boolean {
  return bytes >= HEADER_BYTES && bytes <= HEADER_BYTES + META_BYTES_MAX;
}

function metaOf(chunk: ChunkIdentity): Buffer {
  const { namespace, tokens } = chunk;
  const length = Buffer.alloc(4);
  length.writeUInt32LE(Buffer.byteLength(namespace));
  return Buffer.concat([
    length,
    Buffer.from(namespace),
    new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength),
  ]);
}

function parseMeta(meta: Buffer): Pick<ChunkIdentity, 'namespace' | 'tokens'> | undefined {
  if (meta.byteLength < 4) return undefined;
  const tokensAt = 4 + meta.readUInt32LE(0);
  if (tokensAt > meta.byteLength) return undefined;
  const tokens = tokensIn(meta.subarray(tokensAt));
  return tokens && { namespace: meta.toString('utf8', 4, tokensAt), tokens };
}

/** A view where the memory allows it, else a copy. */
function tokensIn({ buffer, byteOffset, byteLength }: Uint8Array): Int32Array | undefined {
  if (byteLength % 4 !== 0) return undefined;
  if (byteOffset % 4 === 0) return new Int32Array(buffer, byteOffset, byteLength / 4);
  return new Int32Array(buffer.slice(byteOffset, byteOffset + byteLength));
}
