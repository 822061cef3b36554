/**
 * The catalogue's schema, as the numbered steps that lead to it. A step is never changed once released: a new one
 * follows. SQLite's `user_version` is the number of steps done.
 */
import type Database from 'better-sqlite3';
import { DiskError } from './disk-error.js';

export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE owners (
    id INTEGER PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    key_id BLOB NOT NULL,
    UNIQUE (fingerprint, key_id)
  ) STRICT;
  CREATE TABLE chunks (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    parent BLOB,
    namespace TEXT NOT NULL,
    tokens BLOB NOT NULL,
    owner INTEGER NOT NULL,
    file_bytes INTEGER NOT NULL,
    codec INTEGER NOT NULL,
    exact INTEGER NOT NULL,
    created_ms REAL NOT NULL,
    used_ms REAL NOT NULL,
    hits INTEGER NOT NULL,
    pinned_until_ms REAL,
    pin_ttl_ms REAL,
    ttl_ms REAL,
    priority REAL NOT NULL
  ) STRICT`,
];

/**
 * Runs the steps that are still to do, each with its number in one transaction, so that two processes never do one
 * twice; takes the lock even if there are none. @throws DiskError `disk_version` when more were done than are known here
 */
export function migrate(database: Database.Database, migrations: readonly string[]): void {
  const step = database.transaction((): boolean => {
    const done = Number(database.pragma('user_version', { simple: true }));
    if (done > migrations.length) {
      const versions = `version ${done}, this release knows ${migrations.length}`;
      throw new DiskError('disk_version', `the directory was written by a newer release: ${versions}`);
    }
    if (done === migrations.length) return false;
    database.exec(migrations[done]!);
    database.pragma(`user_version = ${done + 1}`);
    return true;
  });
  while (step.immediate());
}
