import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { messagesError } from '../../src/api/messages-error.js';
import { ERROR_CODES, ERRORS, RadixkvError } from '../../src/errors.js';

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

test('docs/errors.md says which type each status has in Anthropic’s shape', () => {
  const documented = readFileSync('docs/errors.md', 'utf8')
    .split('\n')
    .map((line) => /^\| (\d+(?:, \d+)*) \| (\w+) \|$/.exec(line))
    .filter((row) => row !== null)
    .flatMap(([, statuses, type]) => statuses!.split(', ').map((status) => `${status} ${type}`));
  const actual = ERROR_CODES.map((code) => {
    const { error } = messagesError(new RadixkvError(code, 'No.'), 'req_1').data;
    return `${ERRORS[code].status} ${error.type}`;
  });
  assert.deepEqual(new Set(documented), new Set(actual));
});
