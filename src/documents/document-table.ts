/**
 * The documents on disk: one SQLite table, whose rows are the truth about which documents there are.
 *
 * Rows of another encryption key are not seen, but count, and are replaced by a document of the same name. The counts
 * are kept beside the table, which this process has to itself. Knows no KV and no time.
 */
import type Database from 'better-sqlite3';
import { guardDatabase, openDatabase } from '#storage';
import type { DocumentFailure, DocumentName, StoredDocument } from './document.js';
import { MIGRATIONS } from './migrations.js';
import type { PassageCodec } from './passage-codec.js';

interface SqlRow {
  readonly namespace: string;
  readonly id: string;
  readonly content: Buffer;
  readonly passage: Buffer;
  readonly created_ms: number;
  readonly ttl_ms: number | null;
  readonly expires_ms: number | null;
  readonly pinned: number;
  readonly version: number;
  readonly status: StoredDocument['status'];
  readonly error_code: string | null;
  readonly error_message: string | null;
}

interface SqlWish {
  readonly documents: number;
  readonly pinned: number | null;
  readonly ttls: number;
  readonly ttl_ms: number | null;
}

/** What all documents of one content ask for together. */
export interface ContentWish {
  readonly isPinned: boolean;
  readonly ttlMs: number | undefined;
}

const OWN = 'SELECT * FROM documents WHERE key_id = ? AND';
const NAMED = 'WHERE namespace = ? AND id = ?';

function prepareAll(database: Database.Database) {
  return {
    get: database.prepare<unknown[], SqlRow>(`${OWN} namespace = ? AND id = ?`),
    after: database.prepare<unknown[], SqlRow>(`${OWN} namespace = ? AND id > ? ORDER BY id LIMIT 1`),
    queued: database.prepare<unknown[], SqlRow>(`${OWN} status = 'queued' ORDER BY version LIMIT 1`),
    expired: database.prepare<unknown[], SqlRow>(`${OWN} expires_ms <= ? LIMIT 64`),
    nextExpiry: database
      .prepare<[Uint8Array], number>(
        `SELECT expires_ms FROM documents WHERE key_id = ? AND expires_ms IS NOT NULL ORDER BY expires_ms LIMIT 1`,
      )
      .pluck(),
    wish: database.prepare<[string, Uint8Array], SqlWish>(
      `SELECT count(*) AS documents, max(pinned) AS pinned, count(ttl_ms) AS ttls, max(ttl_ms) AS ttl_ms
       FROM documents WHERE namespace = ? AND content = ?`,
    ),
    bytes: database
      .prepare<[string, string], number>(`SELECT length(passage) FROM documents ${NAMED}`)
      .pluck(),
    put: database.prepare(
      `INSERT OR REPLACE INTO documents
       (namespace, id, key_id, content, passage, created_ms, ttl_ms, expires_ms, pinned, version, status)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued')`,
    ),
    renew: database.prepare(`UPDATE documents SET expires_ms = ? ${NAMED}`),
    rewind: database.prepare('UPDATE documents SET expires_ms = ? + ttl_ms WHERE expires_ms > ? + ttl_ms'),
    settle: database.prepare(
      'UPDATE documents SET status = ?, error_code = ?, error_message = ? WHERE version = ?',
    ),
    remove: database.prepare(`DELETE FROM documents ${NAMED}`),
  };
}

export class DocumentTable {
  readonly #database: Database.Database;
  readonly #codec: PassageCodec;
  readonly #sql: ReturnType<typeof prepareAll>;
  readonly #counts = new Map<string, number>();
  #bytes = 0;
  #version: number;

  private constructor(database: Database.Database, codec: PassageCodec) {
    this.#database = database;
    this.#codec = codec;
    this.#sql = prepareAll(database);
    this.#version = database.prepare<[], number>('SELECT max(version) FROM documents').pluck().get() ?? 0;
    const counts = database.prepare<[], { namespace: string; documents: number; bytes: number }>(
      'SELECT namespace, count(*) AS documents, sum(length(passage)) AS bytes FROM documents GROUP BY namespace',
    );
    for (const { namespace, documents, bytes } of counts.all()) {
      this.#counts.set(namespace, documents);
      this.#bytes += bytes;
    }
  }

  /** @throws DiskError as `openDatabase` does */
  static open(path: string, codec: PassageCodec): DocumentTable {
    const database = openDatabase(path, MIGRATIONS);
    try {
      return guardDatabase(() => new DocumentTable(database, codec));
    } catch (error) {
      database.close();
      throw error;
    }
  }

  /** Documents of one namespace. */
  count(namespace: string): number {
    return this.#counts.get(namespace) ?? 0;
  }

  /** Of all passages. */
  get bytes(): number {
    return this.#bytes;
  }

  get({ namespace, id }: DocumentName): StoredDocument | undefined {
    return this.#own(this.#sql.get, namespace, id)[0];
  }

  /** In the order of their ids, from behind `after`; read as they are taken. */
  *list(namespace: string, after = ''): Generator<StoredDocument, void, void> {
    for (let last = after; ; ) {
      const [next] = this.#own(this.#sql.after, namespace, last);
      if (next === undefined) return;
      yield next;
      last = next.id;
    }
  }

  /** The oldest wish for KV. */
  nextQueued(): StoredDocument | undefined {
    return this.#own(this.#sql.queued)[0];
  }

  /** Some of those that have expired. */
  expired(nowMs: number): StoredDocument[] {
    return this.#own(this.#sql.expired, nowMs);
  }

  /** When the next document expires. */
  get nextExpiryMs(): number | undefined {
    return guardDatabase(() => this.#sql.nextExpiry.get(this.#codec.keyId));
  }

  /** After the clock went back: nothing is left more time than its TTL. */
  rewind(nowMs: number): void {
    guardDatabase(() => this.#sql.rewind.run(nowMs, nowMs));
  }

  /** What the documents of a content ask for together; undefined when there are none. */
  wishOf(namespace: string, content: Uint8Array): ContentWish | undefined {
    const wish = guardDatabase(() => this.#sql.wish.get(namespace, content))!;
    if (wish.documents === 0) return undefined;
    const ttlMs = wish.ttls < wish.documents ? undefined : (wish.ttl_ms ?? undefined);
    return { isPinned: wish.pinned === 1, ttlMs };
  }

  /** Adds or replaces a document, whose KV is wished for from now. */
  put(document: Omit<StoredDocument, 'version' | 'status' | 'failure'>): void {
    const { namespace, id, passage, content, createdAtMs, ttlMs, expiresAtMs, isPinned } = document;
    const bytes = this.#codec.encode(passage, document);
    const before = this.#bytesOf(document);
    const fixed = [namespace, id, this.#codec.keyId, content, bytes, createdAtMs];
    const kept = [ttlMs ?? null, expiresAtMs ?? null, isPinned ? 1 : 0];
    guardDatabase(() => this.#sql.put.run(...fixed, ...kept, this.#version + 1));
    this.#version++;
    this.#bytes += bytes.length - (before ?? 0);
    if (before === undefined) this.#counts.set(namespace, this.count(namespace) + 1);
  }

  /** Moves the end of a document that is there. */
  renew({ namespace, id }: DocumentName, expiresAtMs: number | undefined): void {
    guardDatabase(() => this.#sql.renew.run(expiresAtMs ?? null, namespace, id));
  }

  /** Notes how a wish ended, if it is still the last one of its document. */
  settle(version: number, failure: DocumentFailure | undefined): void {
    const status = failure === undefined ? 'ready' : 'failed';
    guardDatabase(() =>
      this.#sql.settle.run(status, failure?.code ?? null, failure?.message ?? null, version),
    );
  }

  remove(name: DocumentName): void {
    const before = this.#bytesOf(name);
    if (before === undefined) return;
    guardDatabase(() => this.#sql.remove.run(name.namespace, name.id));
    this.#bytes -= before;
    const left = this.count(name.namespace) - 1;
    if (left === 0) this.#counts.delete(name.namespace);
    else this.#counts.set(name.namespace, left);
  }

  close(): void {
    this.#database.close();
  }

  /** Of a row of any key. */
  #bytesOf({ namespace, id }: DocumentName): number | undefined {
    return guardDatabase(() => this.#sql.bytes.get(namespace, id));
  }

  /** Own rows; those that can't be read are removed. */
  #own(statement: Database.Statement<unknown[], SqlRow>, ...values: unknown[]): StoredDocument[] {
    for (;;) {
      const rows = guardDatabase(() => statement.all(this.#codec.keyId, ...values));
      const documents = rows.map((row) => this.#fromSql(row));
      const readable = documents.filter((document) => document !== undefined);
      if (readable.length === rows.length) return readable;
      for (const [at, row] of rows.entries()) if (documents[at] === undefined) this.remove(row);
    }
  }

  #fromSql(row: SqlRow): StoredDocument | undefined {
    const passage = this.#codec.decode(row.passage, row);
    if (passage === undefined) return undefined;
    const { namespace, id, content, version, status, error_code: code } = row;
    return {
      namespace,
      id,
      passage,
      content,
      createdAtMs: row.created_ms,
      ttlMs: row.ttl_ms ?? undefined,
      expiresAtMs: row.expires_ms ?? undefined,
      isPinned: row.pinned === 1,
      version,
      status,
      failure: code === null ? undefined : { code, message: row.error_message ?? '' },
    };
  }
}
