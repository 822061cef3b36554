/**
 * Reads an archive as it comes, chunk by chunk, and gives what is verified only: of this model and layout, with the key
 * of its tokens behind a chunk that came before, its bytes as they were sealed. Whatever lengths an archive claims, no
 * memory is taken beyond what a chunk of this layout needs.
 */
import type { ChunkCipher } from '../disk/chunk-cipher.js';
import type { ChunkFormat } from '../disk/chunk-format.js';
import { HEADER_BYTES, headBytesOf } from '../disk/chunk-head.js';
import type { ChunkKey } from '../key.js';
import {
  ARCHIVE_HEADER_BYTES,
  ARCHIVE_MAGIC,
  ARCHIVE_VERSION,
  type ArchiveDescription,
  type ArchivedChunk,
  ArchiveError,
  type ArchiveLimits,
  type ArchiveSubject,
  archivedFormat,
  COUNT_BYTES,
  HASH_BYTES,
  TRAILER_MAGIC,
} from './archive-format.js';
import { ByteReader } from './byte-reader.js';

const UNSEALED = /^0+$/;

export class ArchiveReader {
  readonly description: ArchiveDescription;
  /** Whether only who has the encryption key can have made its chunks. */
  readonly isSealed: boolean;
  readonly #bytes: ByteReader;
  readonly #format: ChunkFormat;
  readonly #subject: ArchiveSubject;
  readonly #limits: ArchiveLimits;
  /** Their labels, by key. */
  readonly #seen = new Map<ChunkKey, string>();

  private constructor(parts: {
    readonly description: ArchiveDescription;
    readonly bytes: ByteReader;
    readonly subject: ArchiveSubject;
    readonly cipher: ChunkCipher | undefined;
    readonly limits: ArchiveLimits;
  }) {
    this.description = parts.description;
    this.isSealed = parts.cipher !== undefined;
    this.#bytes = parts.bytes;
    this.#format = archivedFormat(parts.subject, parts.cipher);
    this.#subject = parts.subject;
    this.#limits = parts.limits;
  }

  /**
   * Reads what is said of the whole.
   * @param cipher absent: no archive that is sealed can be read
   * @throws ArchiveError
   */
  static async open(
    source: AsyncIterable<Uint8Array>,
    options: {
      readonly subject: ArchiveSubject;
      readonly cipher: ChunkCipher | undefined;
      readonly limits: ArchiveLimits;
    },
  ): Promise<ArchiveReader> {
    const { subject, limits } = options;
    const bytes = new ByteReader(source, limits.bytesMax);
    const description = await readDescription(bytes, limits);
    const [plain, sealed] = [archivedFormat(subject, undefined), archivedFormat(subject, options.cipher)];
    if (description.fingerprint !== plain.fingerprint.toString('hex'))
      throw new ArchiveError('other_model', `it is of ${description.model}, or of chunks of another length`);
    if (UNSEALED.test(description.keyId))
      return new ArchiveReader({ description, bytes, subject, cipher: undefined, limits });
    if (description.keyId !== sealed.keyId.toString('hex'))
      throw new ArchiveError('other_key', 'it is sealed under another encryption key');
    return new ArchiveReader({ description, bytes, subject, cipher: options.cipher, limits });
  }

  /** Bytes read so far. */
  get position(): number {
    return this.#bytes.position;
  }

  /**
   * The chunks, each after its parent. It ends when the whole was sound.
   * @throws ArchiveError where the archive ends being so
   */
  async *chunks(): AsyncGenerator<ArchivedChunk, void, void> {
    const bytes = new Uint8Array(this.#subject.layout.chunkBytes);
    for (;;) {
      const magic = await this.#bytes.read(Buffer.alloc(TRAILER_MAGIC.byteLength));
      if (magic.equals(TRAILER_MAGIC)) break;
      if (this.#seen.size >= this.#limits.chunksMax)
        throw new ArchiveError('too_large', `it has more than ${this.#limits.chunksMax} chunks`);
      yield await this.#readChunk(magic, bytes);
    }
    await this.#readTrailer();
  }

  async #readChunk(magic: Buffer, bytes: Uint8Array): Promise<ArchivedChunk> {
    const head = await this.#readHead(magic);
    const found = this.#format.readHead(head);
    const meta = found && this.#format.isOwn(found) ? this.#format.readMeta(head) : undefined;
    if (found === undefined || meta === undefined) throw this.#corrupt('the head of a chunk');
    const { namespace: label, tokens } = meta;
    const { key, parent, checksum, isExact } = found;
    const isTrue =
      tokens.length === this.#subject.layout.chunkTokens &&
      this.#format.isTrue({ key, parent, namespace: label, tokens }, found) &&
      (parent === undefined || this.#seen.get(parent) === label) &&
      !this.#seen.has(key);
    const payload = isTrue ? this.#format.buffersFor(found, bytes)?.payload : undefined;
    if (payload === undefined) throw this.#corrupt('the identity of a chunk');
    await this.#bytes.read(payload);
    if (this.#format.decode(found, { head, payload }, bytes) === undefined)
      throw this.#corrupt('the bytes of a chunk');
    this.#seen.set(key, label);
    return { key, parent, label, tokens, isExact, checksum, bytes };
  }

  /** Of which the first bytes are read already. */
  async #readHead(magic: Buffer): Promise<Buffer> {
    const header = Buffer.alloc(HEADER_BYTES);
    magic.copy(header);
    await this.#bytes.read(header.subarray(magic.byteLength));
    const headBytes = headBytesOf(header);
    const { chunkTokens } = this.#subject.layout;
    const headBytesMax = HEADER_BYTES + 4 + this.#limits.labelBytesMax + chunkTokens * 4;
    if (headBytes === undefined || headBytes > headBytesMax) throw this.#corrupt('the head of a chunk');
    const head = Buffer.alloc(headBytes);
    header.copy(head);
    await this.#bytes.read(head.subarray(HEADER_BYTES));
    return head;
  }

  async #readTrailer(): Promise<void> {
    const count = (await this.#bytes.read(Buffer.alloc(COUNT_BYTES))).readBigUInt64LE();
    const digest = this.#bytes.digest();
    const hash = await this.#bytes.read(Buffer.alloc(HASH_BYTES));
    if (count !== BigInt(this.#seen.size) || !hash.equals(digest)) throw this.#corrupt('the whole');
    if (!(await this.#bytes.isAtEnd())) throw this.#corrupt('its length');
  }

  #corrupt(what: string): ArchiveError {
    return new ArchiveError('corrupt', `${what} does not match before byte ${this.position}`);
  }
}

async function readDescription(bytes: ByteReader, limits: ArchiveLimits): Promise<ArchiveDescription> {
  const header = await bytes.read(Buffer.alloc(ARCHIVE_HEADER_BYTES));
  if (!header.subarray(0, 8).equals(ARCHIVE_MAGIC)) throw notAnArchive();
  const version = header.readUInt16LE(8);
  if (version !== ARCHIVE_VERSION)
    throw new ArchiveError(
      'not_an_archive',
      `it is of version ${version}, this release knows ${ARCHIVE_VERSION}`,
    );
  const length = header.readUInt32LE(12);
  if (length > limits.descriptionBytesMax)
    throw new ArchiveError('too_large', `its description is longer than ${limits.descriptionBytesMax} bytes`);
  const text = (await bytes.read(Buffer.alloc(length))).toString('utf8');
  try {
    return checkedDescription(JSON.parse(text));
  } catch {
    throw notAnArchive();
  }
}

function checkedDescription(value: Partial<Record<keyof ArchiveDescription, unknown>>): ArchiveDescription {
  const { model, fingerprint, keyId, scope, processor, chunksMax } = value;
  const texts = [model, fingerprint, keyId, scope, processor];
  if (texts.some((text) => typeof text !== 'string') || !Number.isSafeInteger(chunksMax))
    throw notAnArchive();
  return {
    model: String(model),
    fingerprint: String(fingerprint),
    keyId: String(keyId),
    scope: String(scope),
    processor: String(processor),
    chunksMax: Number(chunksMax),
  };
}

function notAnArchive(): ArchiveError {
  return new ArchiveError('not_an_archive', 'it is no archive of KV');
}
