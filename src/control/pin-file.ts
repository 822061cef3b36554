/**
 * Pins on disk, so that a start knows them again: an SQLite file of this process alone. What keeps chunks from eviction
 * is in the catalogue beside them; here is which prefixes were meant.
 *
 * Tokens are what prompts are made of, so that they are sealed where there is an encryption key, each under its pin's
 * id. Rows of another model or key are not seen, and stay for when it is back.
 */
import { hkdfSync, randomBytes } from 'node:crypto';
import type Database from 'better-sqlite3';
import {
  ChunkCipher,
  CIPHER_KEY_BYTES,
  type DiskError,
  guardDatabase,
  openDatabase,
  openOrBeginAnew,
  SEAL_BYTES,
} from '#storage';

/** A pin, as it was asked for. */
export interface StoredPin {
  readonly id: string;
  /** Whose it is. */
  readonly owner: string;
  /** Where its chunks are: the owner's, or a part of it. */
  readonly namespace: string;
  readonly tokens: Int32Array;
  readonly createdAtMs: number;
  readonly ttlMs: number | undefined;
  readonly priority: number | undefined;
}

interface SqlPin {
  readonly id: string;
  readonly owner: string;
  readonly namespace: string;
  readonly tokens: Buffer;
  readonly created_ms: number;
  readonly ttl_ms: number | null;
  readonly priority: number | null;
}

/** The schema, as the numbered steps that lead to it. A step is never changed once released: a new one follows. */
const MIGRATIONS: readonly string[] = [
  `CREATE TABLE pins (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    namespace TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    key_id BLOB NOT NULL,
    tokens BLOB NOT NULL,
    created_ms REAL NOT NULL,
    ttl_ms REAL,
    priority INTEGER
  ) STRICT`,
];

function prepareAll(database: Database.Database) {
  return {
    own: database.prepare<[string, Uint8Array], SqlPin>(
      'SELECT * FROM pins WHERE fingerprint = ? AND key_id = ? ORDER BY created_ms, id',
    ),
    add: database.prepare(
      `INSERT INTO pins (id, owner, namespace, fingerprint, key_id, tokens, created_ms, ttl_ms, priority)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    remove: database.prepare('DELETE FROM pins WHERE id = ?'),
  };
}

export interface PinFileOptions {
  readonly path: string;
  /** Of the model, as in the keys of its chunks. */
  readonly fingerprint: string;
  readonly encryptionKey?: Uint8Array | undefined;
  /** The file was corrupt, was set aside, and an empty one begun. */
  readonly onCorrupt: (error: DiskError) => void;
}

/** Every call throws `DiskError` when the disk refuses. */
export class PinFile {
  readonly #database: Database.Database;
  readonly #sql: ReturnType<typeof prepareAll>;
  readonly #fingerprint: string;
  readonly #cipher: ChunkCipher | undefined;

  private constructor(database: Database.Database, { fingerprint, encryptionKey }: PinFileOptions) {
    this.#database = database;
    this.#sql = prepareAll(database);
    this.#fingerprint = fingerprint;
    if (encryptionKey === undefined) return;
    const key = hkdfSync('sha256', encryptionKey, '', 'radixkv-pins', CIPHER_KEY_BYTES);
    this.#cipher = new ChunkCipher(new Uint8Array(key), randomBytes);
  }

  static open(options: PinFileOptions): PinFile {
    const { path, onCorrupt } = options;
    const open = () => {
      const database = openDatabase(path, MIGRATIONS);
      return guardDatabase(() => new PinFile(database, options));
    };
    return openOrBeginAnew(path, open, onCorrupt);
  }

  /** Those of this model and key, oldest first. */
  all(): StoredPin[] {
    const rows = guardDatabase(() => this.#sql.own.all(this.#fingerprint, this.#keyId));
    return rows.flatMap((row) => {
      const tokens = this.#open(row);
      if (tokens === undefined) return [];
      const { id, owner, namespace, created_ms: createdAtMs, ttl_ms: ttlMs, priority } = row;
      return [
        {
          id,
          owner,
          namespace,
          tokens,
          createdAtMs,
          ttlMs: ttlMs ?? undefined,
          priority: priority ?? undefined,
        },
      ];
    });
  }

  add({ id, owner, namespace, tokens, createdAtMs, ttlMs, priority }: StoredPin): void {
    const sealed = this.#seal(id, tokens);
    const rest = [sealed, createdAtMs, ttlMs ?? null, priority ?? null];
    guardDatabase(() => this.#sql.add.run(id, owner, namespace, this.#fingerprint, this.#keyId, ...rest));
  }

  remove(id: string): void {
    guardDatabase(() => this.#sql.remove.run(id));
  }

  close(): void {
    this.#database.close();
  }

  get #keyId(): Uint8Array {
    return this.#cipher?.keyId ?? new Uint8Array();
  }

  #seal(id: string, tokens: Int32Array): Uint8Array {
    const bytes = new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength);
    if (this.#cipher === undefined) return bytes;
    const { seal, sealed } = this.#cipher.seal(bytes, Buffer.from(id));
    return Buffer.concat([seal, sealed]);
  }

  /** Undefined for what is not what was written. */
  #open({ id, tokens }: SqlPin): Int32Array | undefined {
    const bytes = this.#cipher
      ? this.#cipher.open(tokens.subarray(0, SEAL_BYTES), tokens.subarray(SEAL_BYTES), Buffer.from(id))
      : tokens;
    if (bytes === undefined || bytes.byteLength % 4 !== 0) return undefined;
    return new Int32Array(new Uint8Array(bytes).buffer);
  }
}
