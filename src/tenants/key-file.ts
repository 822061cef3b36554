/**
 * Tenants and their keys on disk: an SQLite file that the server reads and the command line writes, at the same time.
 *
 * Invariants:
 * - no text of a key is in it, and only its owner can read it;
 * - rows are never deleted: a key that was revoked is still known to have been there;
 * - a namespace is HMAC-SHA256 of the tenant's name under its salt: random to who has not read the file.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { closeSync, existsSync, fchmodSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import type Database from 'better-sqlite3';
import { DiskError, guardDatabase, openDatabase } from '#storage';
import { errnoOf, messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';
import { createApiKey, hashOfApiKey } from './api-key.js';
import { MIGRATIONS } from './migrations.js';
import type { ByteQuotas, KeyRecord, RateLimits, Role, Tenant } from './tenant.js';

/** In the data directory. */
export const KEYS_FILE = 'keys.sqlite';

const SALT_BYTES = 32;
const OWNER_ONLY = 0o600;

interface SqlTenant {
  readonly name: string;
  readonly salt: Buffer;
  readonly created_ms: number;
  readonly requests_per_minute: number | null;
  readonly tokens_per_minute: number | null;
  readonly host_bytes: number | null;
  readonly disk_bytes: number | null;
  readonly reads_shared: number;
}

interface SqlKey {
  readonly id: string;
  readonly tenant: string;
  readonly role: Role;
  readonly hash: Buffer;
  readonly created_ms: number;
  readonly revoked_ms: number | null;
}

function prepareAll(database: Database.Database) {
  return {
    version: database.prepare<[], number>('PRAGMA data_version').pluck(),
    tenants: database.prepare<[], SqlTenant>('SELECT * FROM tenants ORDER BY name'),
    keys: database.prepare<[], SqlKey>('SELECT * FROM keys ORDER BY created_ms, id'),
    addTenant: database.prepare(
      'INSERT INTO tenants (name, salt, created_ms) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING',
    ),
    addKey: database.prepare('INSERT INTO keys (id, tenant, role, hash, created_ms) VALUES (?, ?, ?, ?, ?)'),
    revoke: database.prepare('UPDATE keys SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL'),
    limit: database.prepare(
      'UPDATE tenants SET requests_per_minute = ?, tokens_per_minute = ? WHERE name = ?',
    ),
    share: database.prepare('UPDATE tenants SET reads_shared = ? WHERE name = ?'),
    quota: database.prepare('UPDATE tenants SET host_bytes = ?, disk_bytes = ? WHERE name = ?'),
  };
}

/** A key with the SHA-256 of its text. */
export type StoredKey = KeyRecord & { readonly hash: Buffer };

export class KeyFile {
  readonly #database: Database.Database;
  readonly #sql: ReturnType<typeof prepareAll>;

  private constructor(database: Database.Database) {
    this.#database = database;
    this.#sql = prepareAll(database);
  }

  /**
   * Opens or makes the file and its directory. A corrupt file is not replaced, since that would let everybody in.
   * @throws RadixkvError `invalid_value` when it can't be used
   */
  static open(path: string): KeyFile {
    try {
      mkdirSync(dirname(path), { recursive: true });
      // SQLite gives its other files the mode of this one.
      const file = openSync(path, 'a', OWNER_ONLY);
      fchmodSync(file, OWNER_ONLY);
      closeSync(file);
      const database = openDatabase(path, MIGRATIONS, { isShared: true });
      return guardDatabase(() => new KeyFile(database));
    } catch (cause) {
      if (!(cause instanceof DiskError) && errnoOf(cause) === undefined) throw cause;
      throw new RadixkvError('invalid_value', `${path} can't be used: ${messageOf(cause)}`, { cause });
    }
  }

  /** Another number whenever another process has changed something. Some microseconds. */
  get version(): number {
    return guardDatabase(() => this.#sql.version.get())!;
  }

  /** By name. */
  tenants(): Tenant[] {
    return guardDatabase(() => this.#sql.tenants.all()).map((row) => ({
      name: row.name,
      namespace: createHmac('sha256', row.salt).update(row.name).digest('hex'),
      createdAtMs: row.created_ms,
      requestsPerMinute: row.requests_per_minute ?? undefined,
      tokensPerMinute: row.tokens_per_minute ?? undefined,
      hostBytes: row.host_bytes ?? undefined,
      diskBytes: row.disk_bytes ?? undefined,
      readsShared: row.reads_shared === 1,
    }));
  }

  /** Oldest first; revoked ones too. */
  keys(): StoredKey[] {
    return guardDatabase(() => this.#sql.keys.all()).map(
      ({ id, tenant, role, hash, created_ms: createdAtMs, revoked_ms: revoked }) => {
        return { id, tenant, role, hash, createdAtMs, revokedAtMs: revoked ?? undefined };
      },
    );
  }

  /** Makes a key, and its tenant with the first one. Returns the text, which is kept nowhere. */
  createKey({ tenant, role }: { readonly tenant: string; readonly role: Role }, nowMs: number): string {
    const { id, text } = createApiKey();
    guardDatabase(() =>
      this.#database
        .transaction(() => {
          this.#sql.addTenant.run(tenant, randomBytes(SALT_BYTES), nowMs);
          this.#sql.addKey.run(id, tenant, role, hashOfApiKey(text), nowMs);
        })
        .immediate(),
    );
    return text;
  }

  /** Whether there was such a key, not revoked yet. */
  revokeKey(id: string, nowMs: number): boolean {
    return guardDatabase(() => this.#sql.revoke.run(nowMs, id)).changes > 0;
  }

  /** Whether there is such a tenant, which now has these limits. */
  setLimits(name: string, { requestsPerMinute, tokensPerMinute }: RateLimits): boolean {
    const limits = [requestsPerMinute ?? null, tokensPerMinute ?? null];
    return guardDatabase(() => this.#sql.limit.run(...limits, name)).changes > 0;
  }

  /** Whether there is such a tenant, which now has these quotas. */
  setQuotas(name: string, { hostBytes, diskBytes }: ByteQuotas): boolean {
    return guardDatabase(() => this.#sql.quota.run(hostBytes ?? null, diskBytes ?? null, name)).changes > 0;
  }

  /** Whether there is such a tenant, which from now on reads the KV of public texts, or does not. */
  setReadsShared(name: string, readsShared: boolean): boolean {
    return guardDatabase(() => this.#sql.share.run(readsShared ? 1 : 0, name)).changes > 0;
  }

  close(): void {
    this.#database.close();
  }
}

/** Whether a key was ever made. Makes no file. */
export function hasKeys(path: string): boolean {
  if (!existsSync(path)) return false;
  const file = KeyFile.open(path);
  try {
    return file.keys().length > 0;
  } finally {
    file.close();
  }
}
