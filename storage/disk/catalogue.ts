/**
 * The catalogue of a disk directory: one SQLite table that says which chunk files there are, what they hold and how
 * they were used, so that a start reads no files.
 *
 * Rows are numbered as they are written, a chunk after its parent. SQLite checks no bytes, so what a row says is to be
 * verified by who reads it. Knows no files of chunks.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import type Database from 'better-sqlite3';
import { type ChunkKey, isOfKeyLength } from '../key.js';
import type { StoredFile } from './chunk-head.js';
import { guardDatabase, openDatabase, setDatabaseAside } from './database.js';
import { MIGRATIONS } from './migrations.js';

/** How a chunk is used and kept: what changes after it was written. */
export interface ChunkUsage {
  readonly usedAtMs: number;
  readonly hits: number;
  readonly pinnedUntilMs: number | undefined;
  readonly pinTtlMs: number | undefined;
  readonly ttlMs: number | undefined;
  readonly priority: number;
}

export interface CatalogueRow extends StoredFile {
  /** False for a chunk of another model, KV layout or encryption key: it takes room, but is of no use. */
  readonly isOwn: boolean;
  readonly parent: ChunkKey | undefined;
  /** The tenant. */
  readonly namespace: string;
  /** int32 each; sealed when there is an encryption key. */
  readonly tokens: Uint8Array;
  readonly createdAtMs: number;
  readonly usage: ChunkUsage;
}

/** A row to add: own, as all that are added. */
export type NewRow = Omit<CatalogueRow, 'isOwn'>;

/** What the users of an open catalogue do with it. */
export type CatalogueTable = Pick<Catalogue, 'find' | 'pages' | 'change' | 'close'>;

/** Whose chunks can be used together. */
export interface ChunkOwner {
  /** Of model and KV layout. */
  readonly fingerprint: Uint8Array;
  /** Of the encryption key. */
  readonly keyId: Uint8Array;
}

export interface UsageOf {
  readonly key: ChunkKey;
  readonly usage: ChunkUsage;
}

/** As SQLite gives it, if nothing changed its types; keys as hex, which is read several times faster than a blob. */
type SqlRow = readonly [id: number, key: string, parent: string, ...SqlRest];
type SqlRest = readonly [
  ...[namespace: string, tokens: Buffer, owner: number],
  ...[fileBytes: number, codec: number, exact: number, createdMs: number, usedMs: number, hits: number],
  ...[pinnedUntilMs: number | null, pinTtlMs: number | null, ttlMs: number | null, priority: number],
];
/** One that is what it should be, as far as types go. */
type WellFormedRow = readonly [id: number, key: ChunkKey, parent: ChunkKey | '', ...SqlRest];

const COLUMNS = 'namespace, tokens, owner, file_bytes, codec, exact, created_ms';
const USAGE_COLUMNS = 'used_ms, hits, pinned_until_ms, pin_ttl_ms, ttl_ms, priority';

const WARM_BYTES = 1 << 20;

export class Catalogue {
  readonly #database: Database.Database;
  readonly #owner: number;
  readonly #find: Database.Statement<[Buffer], { file_bytes: number; codec: number; exact: number }>;
  readonly #page: Database.Statement<[number, number], SqlRow>;
  readonly #insert: Database.Statement;
  readonly #remove: Database.Statement<[Buffer]>;
  readonly #removeId: Database.Statement<[number]>;
  readonly #use: Database.Statement;

  private constructor(database: Database.Database, owner: ChunkOwner) {
    this.#database = database;
    this.#owner = idOf(database, owner);
    this.#find = database.prepare('SELECT file_bytes, codec, exact FROM chunks WHERE key = ?');
    this.#page = database
      .prepare<[number, number], SqlRow>(
        `SELECT id, lower(hex(key)), lower(hex(parent)), ${COLUMNS}, ${USAGE_COLUMNS} FROM chunks
         WHERE id > ? ORDER BY id LIMIT ?`,
      )
      .raw();
    this.#insert = database.prepare(
      `INSERT OR REPLACE INTO chunks (key, parent, ${COLUMNS}, ${USAGE_COLUMNS})
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    this.#remove = database.prepare('DELETE FROM chunks WHERE key = ?');
    this.#removeId = database.prepare('DELETE FROM chunks WHERE id = ?');
    this.#use = database.prepare(`UPDATE chunks SET (${USAGE_COLUMNS}) = (?, ?, ?, ?, ?, ?) WHERE key = ?`);
  }

  /**
   * Opens or makes the file, and brings it to this release's version.
   * @throws DiskError `disk_in_use`, `disk_version`, `disk_unusable`, or `catalogue_lost` when it is corrupt
   */
  static open(path: string, owner: ChunkOwner): Catalogue {
    warm(path);
    const database = openDatabase(path, MIGRATIONS);
    try {
      return guardDatabase(() => new Catalogue(database, owner));
    } catch (error) {
      database.close();
      throw error;
    }
  }

  /**
   * Puts a corrupt catalogue out of the way, in place of the one that was before.
   * @throws DiskError `disk_unusable`
   */
  static setAside(path: string): void {
    setDatabaseAside(path);
  }

  find(key: ChunkKey): StoredFile | undefined {
    const row = guardDatabase(() => this.#find.get(Buffer.from(key, 'hex')));
    return row && { key, fileBytes: row.file_bytes, codecId: row.codec, isExact: row.exact === 1 };
  }

  /**
   * All rows in the order they were written, some at a time; `malformed` ones, which no release wrote, are removed.
   * Other rows may be added and removed meanwhile.
   */
  *pages(rowsMax: number): Generator<{ readonly rows: CatalogueRow[]; readonly malformed: number }> {
    let last = -1;
    while (true) {
      const found = guardDatabase(() => this.#page.all(last, rowsMax));
      if (found.length === 0) return;
      last = found.at(-1)![0];
      const malformed = found.filter((row) => !isWellFormed(row));
      guardDatabase(() => {
        for (const [id] of malformed) this.#removeId.run(id);
      });
      yield {
        rows: found.filter(isWellFormed).map((row) => this.#fromSql(row)),
        malformed: malformed.length,
      };
    }
  }

  /** One transaction: removes rows, then adds or replaces own ones, then notes uses (of rows that are here). */
  change(changes: {
    readonly remove?: readonly ChunkKey[];
    readonly insert?: readonly NewRow[];
    readonly use?: readonly UsageOf[];
  }): void {
    guardDatabase(() =>
      this.#database.transaction(() => {
        for (const key of changes.remove ?? []) this.#remove.run(Buffer.from(key, 'hex'));
        for (const row of changes.insert ?? []) this.#insert.run(...this.#toSql(row));
        for (const { key, usage } of changes.use ?? [])
          this.#use.run(...usageOf(usage), Buffer.from(key, 'hex'));
      })(),
    );
  }

  close(): void {
    this.#database.close();
  }

  #fromSql(row: WellFormedRow): CatalogueRow {
    const [, key, parent, namespace, tokens, owner, fileBytes, codecId, exact, createdAtMs] = row;
    const [, , , , , , , , , , usedAtMs, hits, pinnedUntilMs, pinTtlMs, ttlMs, priority] = row;
    return {
      key,
      parent: parent === '' ? undefined : parent,
      isOwn: owner === this.#owner,
      namespace,
      tokens,
      fileBytes,
      codecId,
      isExact: exact === 1,
      createdAtMs,
      usage: {
        usedAtMs,
        hits,
        pinnedUntilMs: pinnedUntilMs ?? undefined,
        pinTtlMs: pinTtlMs ?? undefined,
        ttlMs: ttlMs ?? undefined,
        priority,
      },
    };
  }

  #toSql(row: NewRow): unknown[] {
    const { key, parent, namespace, tokens, fileBytes, codecId, isExact, createdAtMs, usage } = row;
    const keys = [key, parent].map((one) => (one === undefined ? null : Buffer.from(one, 'hex')));
    const fixed = [namespace, tokens, this.#owner, fileBytes, codecId, isExact ? 1 : 0, createdAtMs];
    return [...keys, ...fixed, ...usageOf(usage)];
  }
}

/**
 * Has the system read the file once from its start to its end. SQLite reads page after page in the order of its trees,
 * which from a cold disk takes many times as long. Not while this process has the catalogue open: the system lets go of
 * a process's locks on a file when it closes any of its handles.
 */
function warm(path: string): void {
  try {
    const file = openSync(path, 'r');
    const buffer = new Uint8Array(WARM_BYTES);
    while (readSync(file, buffer) > 0);
    closeSync(file);
  } catch {
    // There is none yet, or SQLite will say what is wrong with it.
  }
}

function isWellFormed(row: SqlRow): row is WellFormedRow {
  const [, key, parent, namespace, tokens, ...numbers] = row;
  return (
    isOfKeyLength(key) &&
    (parent === '' || isOfKeyLength(parent)) &&
    typeof namespace === 'string' &&
    Buffer.isBuffer(tokens) &&
    numbers.every((number) => number === null || typeof number === 'number')
  );
}

/** The small number that rows name their owner by. */
function idOf(database: Database.Database, owner: ChunkOwner): number {
  const { fingerprint, keyId } = owner;
  database
    .prepare('INSERT OR IGNORE INTO owners (fingerprint, key_id) VALUES (?, ?)')
    .run(fingerprint, keyId);
  const find = database.prepare<unknown[], number>(
    'SELECT id FROM owners WHERE fingerprint = ? AND key_id = ?',
  );
  return find.pluck().get(fingerprint, keyId)!;
}

function usageOf(usage: ChunkUsage): unknown[] {
  const { usedAtMs, hits, pinnedUntilMs, pinTtlMs, ttlMs, priority } = usage;
  return [usedAtMs, hits, pinnedUntilMs ?? null, pinTtlMs ?? null, ttlMs ?? null, priority];
}
