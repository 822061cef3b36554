/**
 * Chunks as files: encodes, seals and checks them, for one model, KV layout, codec to write with, and encryption key.
 *
 * A file is a head (chunk-head.ts) and a payload, the chunk as its codec wrote it, sealed where there is a key
 * (chunk-cipher.ts). A payload is believed when the decoded chunk hashes to what the head says: any doubt is
 * `undefined`. The checksum is that of the slot bytes of every tier, so that a promoted chunk is hashed once.
 * Encryption hides KV, tokens and namespace; keys stay visible, so who sees the files and knows a tenant's
 * credentials can tell whether a prompt he guesses is there. Knows no paths.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { Checksum } from '../checksum.js';
import { type Codec, type CodecName, codecsOf } from '../codec.js';
import { type ChunkKey, chunkKey } from '../key.js';
import type { KvLayout } from '../layout.js';
import type { ChunkIdentity } from '../store.js';
import { type ChunkCipher, KEY_ID_BYTES, SEAL_BYTES } from './chunk-cipher.js';
import {
  beginHead,
  type ChunkHead,
  completeHead,
  encodeMeta,
  fileBytesOf,
  headBytesOf,
  isHeadLength,
  parseHead,
  parseMeta,
  type StoredFile,
  sealContext,
  sealedParts,
  tokensIn,
} from './chunk-head.js';

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

/** What a file is read into. */
export interface FileBuffers {
  readonly head: Buffer;
  readonly payload: Uint8Array;
}

/** Memory is copied by words where both sides are aligned, else by bytes if one side is shared: four times as slow. */
export const WORD_BYTES = 8;

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
  #scratch = new Uint8Array();

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
    const { key, parent, createdAtMs } = draft;
    const { fingerprint, keyId } = this;
    const { id: codecId } = codec;
    const chunkBytes = bytes.byteLength;
    const meta = encodeMeta(draft);
    const head = beginHead(
      { key, parent, createdAtMs, fingerprint, keyId, codecId, isExact, chunkBytes, checksum },
      { meta: meta.byteLength, payload: payload.byteLength },
    );
    if (this.#cipher === undefined) completeHead(head, { meta }, this.#checksum);
    else {
      const ofMeta = this.#cipher.seal(meta, sealContext(head));
      const ofPayload = this.#cipher.seal(payload, sealContext(head));
      const seals = { meta: ofMeta.seal, payload: ofPayload.seal };
      completeHead(head, { meta: ofMeta.sealed, seals }, this.#checksum);
      payload = ofPayload.sealed;
    }
    const fileBytes = head.byteLength + payload.byteLength;
    return { parts: [head, payload], fileBytes, codecId, isExact };
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
      const opened = this.#cipher.open(sealedParts(head).seals.payload, payload, sealContext(head));
      if (opened === undefined) return undefined;
      encoded = opened;
    }
    if (encoded !== into) codec.decode(encoded, into);
    return this.#checksum(into) === found.checksum ? found.checksum : undefined;
  }

  /**
   * The chunk in a file that someone else may have written, which is in `into` then; undefined when it is not just the
   * one that is expected, of this model, layout and encryption key, whole and unchanged.
   */
  open(
    file: Buffer,
    expected: ChunkIdentity,
    into: Uint8Array,
  ): { readonly checksum: bigint; readonly isExact: boolean } | undefined {
    const found = this.readHead(file);
    if (found === undefined || !this.isOwn(found) || found.fileBytes !== file.byteLength) return undefined;
    const codec = this.#codecs.get(found.codecId);
    if (codec === undefined || found.key !== expected.key || found.parent !== expected.parent)
      return undefined;
    const headBytes = file.byteLength - codec.encodedBytes;
    if (!isHeadLength(headBytes) || headBytes !== headBytesOf(file)) return undefined;
    const head = file.subarray(0, headBytes);
    const meta = this.readMeta(head);
    const isSame =
      meta !== undefined &&
      meta.namespace === expected.namespace &&
      meta.tokens.length === expected.tokens.length &&
      meta.tokens.every((token, i) => token === expected.tokens[i]);
    if (!isSame) return undefined;
    const payload = this.#aligned(file.subarray(headBytes));
    const checksum = this.decode(found, { head, payload }, into);
    return checksum === undefined ? undefined : { checksum, isExact: found.isExact };
  }

  /**
   * The same bytes at a multiple of a word, until the next call: codecs read words, and so does a quick copy into shared
   * memory.
   */
  #aligned(payload: Uint8Array): Uint8Array {
    if (payload.byteOffset % WORD_BYTES === 0) return payload;
    if (this.#scratch.byteLength < payload.byteLength) this.#scratch = new Uint8Array(payload.byteLength);
    const copy = this.#scratch.subarray(0, payload.byteLength);
    copy.set(payload);
    return copy;
  }

  /** What a sound head says; `head` may be longer. */
  readHead(head: Buffer): ChunkHead | undefined {
    return parseHead(head, this.#checksum);
  }

  /** Namespace and tokens in a sound head; undefined when they can't be had. */
  readMeta(head: Buffer): Pick<ChunkIdentity, 'namespace' | 'tokens'> | undefined {
    const { meta, seals, isEncrypted } = sealedParts(head);
    const opened = isEncrypted ? this.#cipher?.open(seals.meta, meta, sealContext(head)) : Buffer.from(meta);
    return opened && parseMeta(opened);
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
