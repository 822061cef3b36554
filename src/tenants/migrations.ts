/**
 * The schema of the keys, as the numbered steps that lead to it. A step is never changed once released: a new one
 * follows.
 *
 * `salt`, with the name, gives the tenant's namespace; `hash` is the SHA-256 of a key's text.
 */
export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE tenants (
    name TEXT PRIMARY KEY,
    salt BLOB NOT NULL CHECK (length(salt) = 32),
    created_ms REAL NOT NULL,
    requests_per_minute INTEGER,
    tokens_per_minute INTEGER
  ) STRICT;
  CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenants (name),
    role TEXT NOT NULL CHECK (role IN ('admin', 'user')),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    created_ms REAL NOT NULL,
    revoked_ms REAL
  ) STRICT`,
  `ALTER TABLE tenants ADD COLUMN host_bytes INTEGER;
  ALTER TABLE tenants ADD COLUMN disk_bytes INTEGER`,
  `ALTER TABLE tenants ADD COLUMN reads_shared INTEGER NOT NULL DEFAULT 0`,
];
