/**
 * KV as archives that another machine can load: made of what is cached, and taken in as far as there is room.
 *
 * What comes in gets the keys that its tokens have here, so that it is found only by who brings the same tokens in the
 * same namespace. Whether its rows are those of its tokens can't be told without computing them: an archive is to be
 * trusted like a model file. Where it was computed on another kind of processor, whose last bits may differ, its chunks
 * count as not exact.
 */
import {
  type ArchivedChunk,
  ArchiveError,
  type ArchiveFault,
  ArchiveReader,
  type Checksum,
  type ChunkCipher,
  type ChunkKey,
  type KvLayout,
  writeArchive,
} from '#storage';
import { namespaceParts } from '../cache/namespace-owner.js';
import type { PrefixCache } from '../cache/prefix-cache.js';
import { type ErrorCode, RadixkvError } from '../errors.js';
import { LABEL_BYTES_MAX, labelled, labelOf } from './archive-label.js';

export interface TransferLimits {
  /** Of an archive that is taken in. */
  readonly archiveBytesMax: number;
  readonly archiveChunksMax: number;
  /** Archives that are made or taken in at the same time. */
  readonly archivesMax: number;
}

export const DEFAULT_TRANSFER_LIMITS: TransferLimits = {
  archiveBytesMax: 64 * 1024 ** 3,
  archiveChunksMax: 1_000_000,
  archivesMax: 2,
};

/** Of the JSON that says what an archive is. */
const DESCRIPTION_BYTES_MAX = 4096;

/** Whose KV an archive has. */
export type ArchiveScope = 'tenant' | 'all';

export interface ExportOrder {
  readonly scope: ArchiveScope;
  /** Of the KV that is meant. */
  readonly namespaces: readonly string[];
  /** What stands for an owner in an archive of all tenants. */
  readonly nameOf: (owner: string) => string;
  /** Only the chunks of these tokens. */
  readonly prefix?: Int32Array | undefined;
}

export interface Export {
  /** Bytes of its chunks, at most. */
  readonly bytesMax: number;
  readonly bytes: AsyncIterable<Uint8Array>;
}

export interface ImportOrder {
  readonly scope: ArchiveScope;
  /** Whose an owner's name in the archive is here: '' in one of a single tenant. */
  readonly ownerNamed: (name: string) => string | undefined;
  /** Whether who brings it is trusted with what the model will say. */
  readonly mayBeUnsealed: boolean;
}

const REJECTIONS = ['no_room', 'no_parent', 'unknown_tenant'] as const;

export interface ImportReading {
  readonly imported: number;
  /** That were here. */
  readonly present: number;
  readonly rejected: Readonly<Record<(typeof REJECTIONS)[number], number>>;
  /** Whether it was computed on a processor like this one. */
  readonly isExact: boolean;
}

export interface ArchiveParts {
  /** Id of the served model. */
  readonly model: string;
  /** As in the keys of chunks. */
  readonly fingerprint: string;
  readonly layout: KvLayout;
  readonly vocab: number;
  readonly checksum: Checksum;
  /** Absent: archives are not sealed. */
  readonly cipher?: ChunkCipher | undefined;
  readonly processor: string;
  /** Absent: nothing is cached below the device. */
  readonly prefixes?: PrefixCache | undefined;
  readonly limits?: Partial<TransferLimits>;
}

export class Archives {
  readonly #parts: ArchiveParts;
  readonly #limits: TransferLimits;
  #underWay = 0;

  constructor(parts: ArchiveParts) {
    this.#parts = parts;
    this.#limits = { ...DEFAULT_TRANSFER_LIMITS, ...parts.limits };
  }

  /**
   * An archive of what is cached below the device when it begins; what leaves meanwhile is left out. Its bytes are to be
   * read, or returned.
   * @throws RadixkvError `queue_full`; `not_cached` when there is nothing of a prefix
   */
  export({ scope, namespaces, nameOf, prefix }: ExportOrder): Export {
    const { prefixes, model, processor, cipher, layout } = this.#parts;
    const labels = new Map(
      namespaces.map((namespace) => {
        const name = scope === 'all' ? nameOf(namespaceParts(namespace).owner) : '';
        return [namespace, labelOf(namespace, name)];
      }),
    );
    const chunks = namespaces.flatMap((namespace) => prefixes?.chunksOf(namespace, prefix) ?? []);
    if (prefix !== undefined && chunks.length === 0)
      throw new RadixkvError('not_cached', 'no whole chunk of the prompt is cached below the device');
    this.#begin();
    const read = async function* (): AsyncGenerator<ArchivedChunk> {
      for (const { key, parent, namespace, tokens } of chunks) {
        const bytes = new Uint8Array(layout.chunkBytes);
        const copy = await prefixes!.copy(key, bytes);
        if (copy !== undefined) yield { key, parent, label: labels.get(namespace)!, tokens, bytes, ...copy };
      }
    };
    const description = { model, scope, processor, chunksMax: chunks.length };
    const written = writeArchive({ subject: this.#parts, cipher, description, chunks: read() });
    return { bytesMax: chunks.length * layout.chunkBytes, bytes: this.#ending(written) };
  }

  /**
   * Takes an archive in, chunk by chunk as it comes, at most as much as the tier may hold that it goes to.
   * @throws RadixkvError `archive_invalid`, `archive_mismatch`, `body_too_large`, which say what came in before;
   * `insufficient_permissions`, `invalid_value` for an archive of another scope, `queue_full`
   */
  async import(source: AsyncIterable<Uint8Array>, order: ImportOrder): Promise<ImportReading> {
    const { cipher } = this.#parts;
    const limits = {
      bytesMax: this.#limits.archiveBytesMax,
      chunksMax: this.#limits.archiveChunksMax,
      descriptionBytesMax: DESCRIPTION_BYTES_MAX,
      labelBytesMax: LABEL_BYTES_MAX,
    };
    this.#begin();
    const taking = new TakingIn(this.#parts, order);
    try {
      const reader = await ArchiveReader.open(source, { subject: this.#parts, cipher, limits });
      taking.begin(reader);
      for await (const chunk of reader.chunks()) await taking.take(chunk);
      return taking.reading();
    } catch (error) {
      throw error instanceof ArchiveError ? taking.failure(error) : error;
    } finally {
      this.#underWay--;
    }
  }

  #begin(): void {
    if (this.#underWay >= this.#limits.archivesMax) {
      const message = `${this.#underWay} archives are being made or taken in already`;
      throw new RadixkvError('queue_full', message, { retryAfterS: 10 });
    }
    this.#underWay++;
  }

  async *#ending(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
    try {
      yield* bytes;
    } finally {
      this.#underWay--;
    }
  }
}

const CODES: Readonly<Record<ArchiveFault, ErrorCode>> = {
  not_an_archive: 'archive_invalid',
  truncated: 'archive_invalid',
  corrupt: 'archive_invalid',
  other_model: 'archive_mismatch',
  other_key: 'archive_mismatch',
  too_large: 'body_too_large',
};

/** One archive on its way in. */
class TakingIn {
  readonly #parts: ArchiveParts;
  readonly #order: ImportOrder;
  readonly #roomBytes: number;
  /** Keys here, of chunks that are here, by those in the archive. */
  readonly #keys = new Map<ChunkKey, ChunkKey>();
  readonly #rejected = { no_room: 0, no_parent: 0, unknown_tenant: 0 };
  #imported = 0;
  #present = 0;
  #isExact = false;

  constructor(parts: ArchiveParts, order: ImportOrder) {
    this.#parts = parts;
    this.#order = order;
    this.#roomBytes = parts.prefixes?.takeInCapacityBytes ?? 0;
  }

  /** @throws RadixkvError for an archive that this order does not take */
  begin({ description, isSealed }: ArchiveReader): void {
    if (!isSealed && !this.#order.mayBeUnsealed) {
      throw new RadixkvError(
        'insufficient_permissions',
        "The archive is not sealed under this server's encryption key, so that only an admin may import it.",
      );
    }
    if (description.scope !== this.#order.scope) {
      const message =
        description.scope === 'all'
          ? 'The archive has the KV of all tenants: import it with tenant=*.'
          : 'The archive has the KV of one tenant: import it without tenant=*.';
      throw new RadixkvError('invalid_value', message, { param: 'tenant' });
    }
    this.#isExact = description.processor === this.#parts.processor;
  }

  /** @throws ArchiveError for tokens that the model has not */
  async take(chunk: ArchivedChunk): Promise<void> {
    const { key, parent: archivedParent, label, tokens, bytes, checksum } = chunk;
    const namespace = labelled(label, this.#order.ownerNamed);
    if (namespace === undefined) return this.#reject('unknown_tenant');
    // Passages are padded.
    const lowest = namespaceParts(namespace).isSegment ? -1 : 0;
    if (tokens.some((token) => token < lowest || token >= this.#parts.vocab))
      throw new ArchiveError('corrupt', 'it has tokens that the model has not');
    const parent = archivedParent === undefined ? undefined : this.#keys.get(archivedParent);
    if (archivedParent !== undefined && parent === undefined) return this.#reject('no_parent');
    const { prefixes, layout } = this.#parts;
    if (prefixes === undefined || (this.#imported + 1) * layout.chunkBytes > this.#roomBytes)
      return this.#reject('no_room');
    const isExact = chunk.isExact && this.#isExact;
    const taken = await prefixes.takeIn({ namespace, parent, tokens }, { bytes, checksum, isExact });
    if (taken.outcome === 'imported') this.#imported++;
    else if (taken.outcome === 'present') this.#present++;
    else return this.#reject(taken.outcome);
    this.#keys.set(key, taken.key);
  }

  #reject(reason: (typeof REJECTIONS)[number]): void {
    this.#rejected[reason]++;
  }

  reading(): ImportReading {
    return {
      imported: this.#imported,
      present: this.#present,
      rejected: { ...this.#rejected },
      isExact: this.#isExact,
    };
  }

  failure(error: ArchiveError): RadixkvError {
    const rejected = REJECTIONS.reduce((sum, reason) => sum + this.#rejected[reason], 0);
    const before = `${this.#imported} chunks were imported, ${this.#present} were here, ${rejected} were rejected`;
    const message = `The archive can't be used: ${error.message}. Before that ${before}.`;
    return new RadixkvError(CODES[error.fault], message, { cause: error });
  }
}
