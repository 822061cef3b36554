/** Writes chunks as an archive (archive-format.ts), piece by piece. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { ChunkCipher } from '../disk/chunk-cipher.js';
import { type ChunkKey, chunkKey } from '../key.js';
import {
  ARCHIVE_HEADER_BYTES,
  ARCHIVE_MAGIC,
  ARCHIVE_VERSION,
  type ArchiveDescription,
  type ArchivedChunk,
  type ArchiveSubject,
  archivedFormat,
  COUNT_BYTES,
  TRAILER_MAGIC,
} from './archive-format.js';

/**
 * The bytes of an archive. Chunks come after their parents, once each (asserted), and their bytes may not change any more, since
 * pieces are views of them. A chunk that does not match its checksum any more, and what stands behind it, is left out.
 */
export async function* writeArchive(options: {
  readonly subject: ArchiveSubject;
  /** Absent: everybody can read it, and change it. */
  readonly cipher: ChunkCipher | undefined;
  readonly description: Pick<ArchiveDescription, 'model' | 'scope' | 'processor' | 'chunksMax'>;
  /** With the keys that they have here. */
  readonly chunks: AsyncIterable<ArchivedChunk>;
}): AsyncGenerator<Uint8Array, void, void> {
  const { subject, cipher, description } = options;
  const format = archivedFormat(subject, cipher);
  const hash = createHash('sha256');
  const hashed = (piece: Uint8Array): Uint8Array => {
    hash.update(piece);
    return piece;
  };
  const { model, scope, processor, chunksMax } = description;
  const fingerprint = format.fingerprint.toString('hex');
  const keyId = format.keyId.toString('hex');
  const text = Buffer.from(JSON.stringify({ model, fingerprint, keyId, scope, processor, chunksMax }));
  const header = Buffer.alloc(ARCHIVE_HEADER_BYTES);
  ARCHIVE_MAGIC.copy(header);
  header.writeUInt16LE(ARCHIVE_VERSION, 8);
  header.writeUInt32LE(text.byteLength, 12);
  yield hashed(Buffer.concat([header, text]));
  /** Keys in the archive by those here. */
  const keys = new Map<ChunkKey, ChunkKey>();
  for await (const {
    key: own,
    parent: ownParent,
    label,
    tokens,
    bytes,
    checksum,
    isExact,
  } of options.chunks) {
    const parent = ownParent === undefined ? undefined : keys.get(ownParent);
    if (ownParent !== undefined && parent === undefined) continue;
    assert(!keys.has(own), 'a chunk comes once');
    const key = chunkKey({ fingerprint: subject.fingerprint, salt: label, parent, tokens });
    const draft = { key, parent, namespace: label, tokens, createdAtMs: 0, isExact, checksum };
    const file = format.encode(draft, bytes);
    if (file === undefined) continue;
    keys.set(own, key);
    for (const part of file.parts) yield hashed(part);
  }
  const end = Buffer.alloc(TRAILER_MAGIC.byteLength + COUNT_BYTES);
  TRAILER_MAGIC.copy(end);
  end.writeBigUInt64LE(BigInt(keys.size), TRAILER_MAGIC.byteLength);
  hash.update(end);
  yield Buffer.concat([end, hash.digest()]);
}
