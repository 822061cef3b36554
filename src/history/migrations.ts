/**
 * The schema of the counts, as the numbered steps that lead to it. A step is never changed once released: a new one
 * follows.
 *
 * A row is what the requests of one bucket and one group came to. `size_ms` 0 with `start_ms` 0 is all time;
 * `dimension` is what is grouped by (`total`: nothing, with an empty `name`).
 */

/** Of requests by their time to the first token: 14 buckets and a sum, by how much of the prompt was reused. */
const TTFT_COLUMNS = ['none', 'partial', 'most'].flatMap((hit) => [
  ...Array.from({ length: 14 }, (_, bucket) => `ttft_${hit}_${bucket}`),
  `ttft_${hit}_us`,
]);

export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE counts (
    size_ms INTEGER NOT NULL,
    dimension TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    name TEXT NOT NULL,
    completed INTEGER NOT NULL,
    aborted INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_device_tokens INTEGER NOT NULL,
    cached_host_tokens INTEGER NOT NULL,
    cached_disk_tokens INTEGER NOT NULL,
    blended_device_tokens INTEGER NOT NULL,
    blended_host_tokens INTEGER NOT NULL,
    blended_disk_tokens INTEGER NOT NULL,
    computed_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    saved_us INTEGER NOT NULL,
    unpriced_tokens INTEGER NOT NULL,
    PRIMARY KEY (size_ms, dimension, start_ms, name)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE beginning (id INTEGER PRIMARY KEY CHECK (id = 1), at_ms INTEGER NOT NULL) STRICT`,
  ['regret_host_tokens', 'regret_disk_tokens', ...TTFT_COLUMNS]
    .map((column) => `ALTER TABLE counts ADD COLUMN ${column} INTEGER NOT NULL DEFAULT 0`)
    .join(';\n'),
  `ALTER TABLE counts ADD COLUMN cached_remote_tokens INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE counts ADD COLUMN blended_remote_tokens INTEGER NOT NULL DEFAULT 0`,
];
