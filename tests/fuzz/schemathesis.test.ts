/**
 * Everything that the OpenAPI document allows, and much that it forbids, tried on a running server by schemathesis: no
 * answer is a server error, and each is described. What is checked is in schemathesis.toml.
 *
 * `RADIXKV_FUZZ_SECONDS` and `RADIXKV_FUZZ_SEED` make a longer session of it.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fuzzedServer } from '../support/fuzzed-server.js';

const { RADIXKV_FUZZ_SECONDS: seconds = '60', RADIXKV_FUZZ_SEED: seed = '1' } = process.env;
/** Of an operation in each phase; when all are done before the time is up, they begin again with others. */
const CASES = 10;
/** For starting, and for ending what was begun. */
const AROUND_MS = 180_000;

const HERE = fileURLToPath(new URL('../../../tests/fuzz/', import.meta.url));

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The program of this machine, or of the variable `SCHEMATHESIS`; undefined where there is none. */
const SCHEMATHESIS =
  process.env.SCHEMATHESIS ??
  (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, 'schemathesis'))
    .find(isProgram);

const skip =
  SCHEMATHESIS === undefined &&
  'no schemathesis on this machine: pip install -r tests/fuzz/requirements.txt, in an environment of its own';

test('what schemathesis makes of the OpenAPI document is answered as it says, and never with a server error', {
  skip,
  timeout: Number(seconds) * 1000 + AROUND_MS,
}, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'radixkv-schemathesis-'));
  const server = await fuzzedServer(t);
  t.after(() => rm(folder, { recursive: true }));
  const flags = {
    '--url': server.url,
    '--max-time': seconds,
    '--seed': seed,
    '--max-examples': String(CASES),
    '--request-timeout': '30',
  };
  const child = spawn(
    SCHEMATHESIS!,
    [
      '--config-file',
      join(HERE, 'schemathesis.toml'),
      'run',
      `${server.url}/openapi.json`,
      '--continue-on-failure',
      '--no-color',
      ...Object.entries(flags).flat(),
    ],
    {
      cwd: folder,
      env: { ...process.env, SCHEMATHESIS_HOOKS: join(HERE, 'hooks.py'), PYTHONDONTWRITEBYTECODE: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
      signal: t.signal,
    },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  const [code] = await once(child, 'close');
  const answered = [...server.answered].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [route, count] of answered) t.diagnostic(`${route} ${count}`);
  const errors = answered.filter(
    ([route]) => /5\d\d$/.test(route) && !/completions 504|messages 504/.test(route),
  );
  assert.deepEqual(errors, []);
  assert.equal(code, 0, output);
  assert(answered.length > 50, 'it has tried more than that');
});
