/** The example of retrieval, as a reader runs it: a process of its own against a server. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { parseServeOptions } from '../../src/config/options.js';
import { startRadixkv } from '../../src/server.js';
import { tinyModel } from '../support/backend.js';

const EXAMPLE = fileURLToPath(new URL('../../../docs/examples/rag/rag.js', import.meta.url));

const LINE =
  /^ {3}(exact|blend): first token after \d+ ms \(cached (\d+), blended (\d+), computed (\d+)\): /gm;

test('the example blends passages it stored, and compares that with exact reuse', async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'radixkv-rag-'));
  t.after(() => rm(dataDir, { recursive: true }));
  const texts = {
    dataDir,
    port: '0',
    threads: '1',
    hostBytes: '64MiB',
    deviceBytes: '16MiB',
    diskBytes: '0',
  };
  const server = await startRadixkv(parseServeOptions(texts), await tinyModel());
  t.after(() => server.close());
  const flags = ['--url', server.url, '--questions', '3', '--passages', '2', '--ratio', '0.25'];
  const { stdout } = await promisify(execFile)(process.execPath, [EXAMPLE, ...flags]);

  assert.match(stdout, /^40 passages stored in [\d.]+ s$/m);
  const rows = [...stdout.matchAll(LINE)].map(([, mode, ...counts]) => ({
    mode,
    counts: counts.map(Number),
  }));
  assert.deepEqual(
    rows.map(({ mode }) => mode),
    ['exact', 'blend', 'exact', 'blend', 'exact', 'blend'],
  );
  for (let i = 0; i < rows.length; i += 2) {
    const [exact, blend] = [rows[i]!.counts, rows[i + 1]!.counts];
    assert.equal(exact[1], 0);
    assert(blend[1]! > 0.5 * blend[2]!, `${stdout}: passages are reused`);
    const totals = [exact, blend].map((counts) => counts.reduce((sum, count) => sum + count, 0));
    assert.equal(totals[0], totals[1], 'both ways read the same prompt');
  }
  assert.match(stdout, /^median time to the first token: exact \d+ ms, blend \d+ ms, [\d.]+ times faster$/m);
});

test("the example's options are those its README names", () => {
  const options = [...readFileSync(EXAMPLE, 'utf8').matchAll(/^ {4}(\w+): \{ type: 'string'/gm)];
  const readme = readFileSync(join(EXAMPLE, '../README.md'), 'utf8');
  const named = [...readme.matchAll(/^\| `--(\w+)` \|/gm)];
  assert(options.length > 0);
  assert.deepEqual(
    named.map(([, name]) => name),
    options.map(([, name]) => name),
  );
});
