/**
 * Documents by namespace and id: stored passages whose KV is computed ahead of time.
 *
 * Invariants:
 * - a document past its end is never found, whenever it is removed;
 * - the KV of a passage is let go when no document of the namespace has that passage any more;
 * - a PUT of what is already there changes nothing but when it expires.
 *
 * Knows no HTTP, and no tokens but their numbers.
 */
import type { Logger } from 'pino';
import { type Clock, DiskError, openOrBeginAnew } from '#storage';
import { errnoOf, messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';
import { type TierTokens, tokensOf } from '../serving/completion.js';
import type { Passage, PassageFinder, PassageService } from '../serving/passages.js';
import type { DocumentName, DocumentReading, StoredDocument } from './document.js';
import { DocumentTable } from './document-table.js';
import { PassageCodec } from './passage-codec.js';
import { Preparation } from './preparation.js';

export interface LibraryLimits {
  readonly documentsPerNamespaceMax: number;
  /** Of all passages of all namespaces, as they are kept. */
  readonly bytesMax: number;
}

export const DEFAULT_LIBRARY_LIMITS: LibraryLimits = {
  documentsPerNamespaceMax: 10_000,
  bytesMax: 1024 ** 3,
};

export interface LibraryOptions {
  /** Of the database; its directory exists. */
  readonly file: string;
  readonly passages: PassageService;
  readonly clock: Clock;
  readonly logger?: Logger;
  readonly limits?: Partial<LibraryLimits>;
  /** 32 bytes; absent: passages are kept in clear. */
  readonly encryptionKey?: Uint8Array;
}

/** How a document is to be kept. */
export interface DocumentOrder {
  readonly passage: Passage;
  /** From the PUT on; undefined: until it is deleted. */
  readonly ttlMs: number | undefined;
  readonly isPinned: boolean;
}

export interface DocumentPage {
  readonly documents: readonly DocumentReading[];
  readonly hasMore: boolean;
}

/** The longest time a timer can have. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** A page ends early once its texts have so many characters, since each is tokenised to be told of. */
const PAGE_CHARACTERS_MAX = 1 << 20;

export class DocumentLibrary implements PassageFinder {
  readonly #table: DocumentTable;
  readonly #codec: PassageCodec;
  readonly #passages: PassageService;
  readonly #clock: Clock;
  readonly #logger: Logger | undefined;
  readonly #limits: LibraryLimits;
  readonly #preparation: Preparation;
  #timer: NodeJS.Timeout | undefined;
  #latestMs = -Infinity;
  #isClosed = false;

  private constructor(options: LibraryOptions, table: DocumentTable, codec: PassageCodec) {
    const { passages, clock, logger, limits } = options;
    this.#table = table;
    this.#codec = codec;
    this.#passages = passages;
    this.#clock = clock;
    this.#logger = logger;
    this.#limits = { ...DEFAULT_LIBRARY_LIMITS, ...limits };
    this.#preparation = new Preparation({ table, passages, logger });
  }

  /**
   * Opens or makes the library, and goes on with what was queued. One that is corrupt is set aside.
   * @throws RadixkvError `invalid_value` when the file can't be used, or another process uses it
   */
  static open(options: LibraryOptions): DocumentLibrary {
    const codec = new PassageCodec(options.encryptionKey);
    const library = new DocumentLibrary(options, openTable(options, codec), codec);
    library.#expire();
    library.#expireInTime();
    library.#preparation.wake();
    return library;
  }

  /** The passage of a document, for a request that names it. */
  find(namespace: string, id: string): Passage | undefined {
    return this.#get({ namespace, id })?.passage;
  }

  read(namespace: string, id: string): DocumentReading | undefined {
    const document = this.#get({ namespace, id });
    return document && this.#reading(document);
  }

  /** In the order of their ids, from behind `after`, at most `limit`. */
  list(
    namespace: string,
    { limit, after }: { readonly limit: number; readonly after: string | undefined },
  ): DocumentPage {
    this.#expire();
    const documents: DocumentReading[] = [];
    let characters = 0;
    for (const document of this.#table.list(namespace, after)) {
      if (documents.length === limit || characters > PAGE_CHARACTERS_MAX) return { documents, hasMore: true };
      characters += document.passage.text.length;
      documents.push(this.#reading(document));
    }
    return { documents, hasMore: false };
  }

  /**
   * Stores a document, in place of the one of this id, and has its KV computed unless that is there or under way.
   * `charge` hears of the tokens that may have to be computed, and may refuse them by throwing.
   * @throws RadixkvError `context_length_exceeded`, `library_full`
   */
  put(
    namespace: string,
    id: string,
    order: DocumentOrder,
    charge: (tokens: number) => void = () => {},
  ): DocumentReading {
    const { passage, ttlMs, isPinned } = order;
    const tokens = this.#passages.tokens(passage);
    const before = this.#get({ namespace, id });
    const content = this.#codec.contentOf(passage);
    const nowMs = this.#clock.now();
    const expiresAtMs = ttlMs === undefined ? undefined : nowMs + ttlMs;
    const isSame = before !== undefined && Buffer.compare(before.content, content) === 0;
    if (isSame && before.ttlMs === ttlMs && before.isPinned === isPinned && this.#isServed(before)) {
      this.#table.renew(before, expiresAtMs);
    } else {
      this.#requireRoom({ namespace, id }, before, passage);
      charge(tokens);
      const createdAtMs = isSame ? before.createdAtMs : nowMs;
      this.#table.put({ namespace, id, passage, content, createdAtMs, ttlMs, expiresAtMs, isPinned });
      if (before !== undefined) this.#letGo(before);
      this.#preparation.wake();
    }
    this.#expireInTime();
    return this.#reading(this.#table.get({ namespace, id })!);
  }

  /** @returns false when there is no such document. */
  remove(namespace: string, id: string): boolean {
    const document = this.#get({ namespace, id });
    if (document === undefined) return false;
    this.#table.remove(document);
    this.#letGo(document);
    return true;
  }

  /** What is queued stays so, until the library is opened again. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#preparation.close();
    this.#table.close();
  }

  #get(name: DocumentName): StoredDocument | undefined {
    this.#expire();
    return this.#table.get(name);
  }

  #reading(document: StoredDocument): DocumentReading {
    const { namespace, id, passage, createdAtMs, expiresAtMs, isPinned, failure } = document;
    const { tokens, cached } = this.#passages.read(namespace, passage);
    const computing = this.#preparation.computedTokens(document);
    return {
      id,
      title: passage.title,
      status: computing === undefined ? document.status : 'computing',
      computedTokens: computing ?? (document.status === 'ready' ? tokens : 0),
      tokens,
      cached,
      createdAtMs,
      expiresAtMs,
      isPinned,
      failure,
    };
  }

  /** Nothing is to do for it: its KV is there or will be. */
  #isServed({ status, namespace, passage }: StoredDocument): boolean {
    if (status !== 'ready') return status === 'queued';
    const { tokens, cached } = this.#passages.read(namespace, passage);
    return isWhole(tokens, cached);
  }

  #requireRoom({ namespace }: DocumentName, before: StoredDocument | undefined, passage: Passage): void {
    const { documentsPerNamespaceMax, bytesMax } = this.#limits;
    if (before === undefined && this.#table.count(namespace) >= documentsPerNamespaceMax) {
      throw new RadixkvError(
        'library_full',
        `there are ${documentsPerNamespaceMax} documents, the most there may be`,
      );
    }
    const freed = before === undefined ? 0 : this.#codec.bytesOf(before.passage);
    if (this.#table.bytes - freed + this.#codec.bytesOf(passage) > bytesMax) {
      throw new RadixkvError('library_full', `the documents would take more than ${bytesMax} bytes`);
    }
  }

  /** Its KV goes with the last document of its content. */
  #letGo({ namespace, passage, content }: StoredDocument): void {
    if (this.#table.wishOf(namespace, content) !== undefined) return;
    this.#preparation.abort(namespace, content);
    this.#passages.forget(namespace, passage);
  }

  #expire(): void {
    const nowMs = this.#clock.now();
    if (nowMs < this.#latestMs) this.#table.rewind(nowMs);
    this.#latestMs = nowMs;
    for (;;) {
      const expired = this.#table.expired(nowMs);
      if (expired.length === 0) return;
      for (const document of expired) {
        this.#table.remove(document);
        this.#letGo(document);
      }
    }
  }

  /** Removes what expires when its time has come, though nobody asks. */
  #expireInTime(): void {
    clearTimeout(this.#timer);
    const next = this.#table.nextExpiryMs;
    if (next === undefined || this.#isClosed) return;
    const waitMs = Math.min(Math.max(0, next - this.#clock.now()), TIMER_MS_MAX);
    this.#timer = setTimeout(() => {
      try {
        this.#expire();
        this.#expireInTime();
      } catch (error) {
        if (!(error instanceof DiskError)) throw error;
        this.#logger?.error({ err: error }, 'expired documents could not be removed');
      }
    }, waitMs).unref();
  }
}

function isWhole(tokens: number, cached: TierTokens): boolean {
  return tokensOf(cached) >= tokens;
}

function openTable({ file, logger }: LibraryOptions, codec: PassageCodec): DocumentTable {
  try {
    return openOrBeginAnew(
      file,
      () => DocumentTable.open(file, codec),
      (error) => {
        const what = 'the library of documents is corrupt; it is set aside and begun anew';
        logger?.error({ err: error, file }, what);
      },
    );
  } catch (cause) {
    if (!(cause instanceof DiskError) && errnoOf(cause) === undefined) throw cause;
    throw new RadixkvError('invalid_value', `the library of documents can't be used: ${messageOf(cause)}`, {
      cause,
    });
  }
}
