/**
 * An SQLite file, of one process alone or shared by several: how it is opened, brought to this release's version, and
 * what its errors mean.
 *
 * WAL: a killed process loses nothing. A power cut may lose the last transactions of a file that is not shared, but
 * never leaves half of one. Knows no tables.
 */
import { closeSync, existsSync, openSync, renameSync, rmSync } from 'node:fs';
import Database from 'better-sqlite3';
import { DiskError } from './disk-error.js';
import { migrate } from './migrations.js';

/** Bounds what the write-ahead log keeps on the disk between checkpoints. */
const WAL_BYTES_MAX = 4 << 20;

/** How long one process may keep another from writing to a shared file; readers never wait. */
const SHARED_WAIT_MS = 1000;

/**
 * Opens or makes the file, and does the steps that lead to this release's tables. `isShared`: several processes may
 * have it open, and what one wrote, no power cut takes back.
 * @throws DiskError `disk_in_use`, `disk_version`, `disk_unusable`, or `catalogue_lost` when it is corrupt
 */
export function openDatabase(
  path: string,
  migrations: readonly string[],
  { isShared = false }: { readonly isShared?: boolean } = {},
): Database.Database {
  return guardDatabase(() => {
    const database = new Database(path, { timeout: isShared ? SHARED_WAIT_MS : 0 });
    try {
      if (!isShared) database.pragma('locking_mode = EXCLUSIVE');
      database.pragma('journal_mode = WAL');
      database.pragma(`synchronous = ${isShared ? 'FULL' : 'NORMAL'}`);
      database.pragma('secure_delete = FAST');
      database.pragma(`journal_size_limit = ${WAL_BYTES_MAX}`);
      const problem = database.pragma('quick_check(1)', { simple: true });
      if (problem !== 'ok') throw new DiskError('catalogue_lost', `${path} is corrupt: ${String(problem)}`);
      migrate(database, migrations);
      return database;
    } catch (error) {
      database.close();
      throw error;
    }
  });
}

/**
 * Has `open` open a file that only its owner may read; a corrupt one is set aside, and begun anew.
 * @param onCorrupt told why, before
 * @throws what `open` throws but for `catalogue_lost`; the system's error where the file can't be made
 */
export function openOrBeginAnew<T>(path: string, open: () => T, onCorrupt: (error: DiskError) => void): T {
  const openPrivate = (): T => {
    // SQLite gives its other files the mode of this one.
    closeSync(openSync(path, 'a', 0o600));
    return open();
  };
  try {
    return openPrivate();
  } catch (error) {
    if (!(error instanceof DiskError && error.code === 'catalogue_lost')) throw error;
    onCorrupt(error);
    setDatabaseAside(path);
    return openPrivate();
  }
}

/**
 * Puts a corrupt file out of the way, in place of the one that was before.
 * @throws DiskError `disk_unusable`
 */
export function setDatabaseAside(path: string): void {
  try {
    if (existsSync(path)) renameSync(path, `${path}.corrupt`);
    for (const suffix of ['-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true });
  } catch (error) {
    throw new DiskError('disk_unusable', `the corrupt file ${path} stays in the way`, error);
  }
}

/** Runs `work`, with what SQLite reports told apart: held by another, broken, or refused by the system. */
export function guardDatabase<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof Database.SqliteError)) throw error;
    const { code, message } = error;
    if (/^SQLITE_(BUSY|LOCKED)/.test(code))
      throw new DiskError('disk_in_use', 'another process has the directory open', error);
    // SQLITE_ERROR: a table or column is not as this release made it.
    if (/^SQLITE_(CORRUPT|NOTADB|ERROR|SCHEMA|MISMATCH|CONSTRAINT|FORMAT)/.test(code))
      throw new DiskError('catalogue_lost', `the database is corrupt: ${message}`, error);
    if (code === 'SQLITE_FULL') throw new DiskError('disk_full', 'there is no room for the database', error);
    throw new DiskError('disk_unusable', `the database cannot be used: ${message} (${code})`, error);
  }
}
