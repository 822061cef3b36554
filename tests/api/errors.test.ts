import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ERRORS } from '../../src/errors.js';

test('docs/errors.md and the error table list the same codes with the same status, type and retry', () => {
  const documented = readFileSync('docs/errors.md', 'utf8')
    .split('\n')
    .map((line) => /^\| (\w+) \| (\d+) \| (\w+) \| (yes|no) \| \S/.exec(line))
    .filter((row) => row !== null)
    .map(([, code, status, type, retry]) => [
      code,
      { status: Number(status), type, retryable: retry === 'yes' },
    ]);
  assert.deepEqual(documented, Object.entries(ERRORS));
});
