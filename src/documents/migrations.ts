/**
 * The library's schema, as the numbered steps that lead to it. A step is never changed once released: a new one
 * follows.
 *
 * `version` numbers the wishes for a passage's KV in the order they came; `content` tells equal passages.
 */
export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE documents (
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    key_id BLOB NOT NULL,
    content BLOB NOT NULL,
    passage BLOB NOT NULL,
    created_ms REAL NOT NULL,
    ttl_ms REAL,
    expires_ms REAL,
    pinned INTEGER NOT NULL,
    version INTEGER NOT NULL UNIQUE,
    status TEXT NOT NULL CHECK (status IN ('queued', 'ready', 'failed')),
    error_code TEXT,
    error_message TEXT,
    PRIMARY KEY (namespace, id)
  ) STRICT;
  CREATE INDEX documents_content ON documents (namespace, content);
  CREATE INDEX documents_queue ON documents (version) WHERE status = 'queued';
  CREATE INDEX documents_expiry ON documents (expires_ms) WHERE expires_ms IS NOT NULL`,
];
