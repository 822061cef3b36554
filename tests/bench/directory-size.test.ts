import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { directorySize } from '../../bench/directory-size.js';

test('the size of a directory is that of the blocks of all files and folders below it', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-size-'));
  t.after(() => rm(directory, { recursive: true }));
  const empty = await directorySize(directory);
  assert.equal(empty.files, 0);
  await mkdir(join(directory, 'a', 'b'), { recursive: true });
  await writeFile(join(directory, 'one'), 'x'.repeat(100_000));
  await writeFile(join(directory, 'a', 'b', 'two'), 'x'.repeat(50_000));
  const { files, allocatedBytes } = await directorySize(directory);
  assert.equal(files, 2);
  assert(allocatedBytes - empty.allocatedBytes >= 150_000);
});

test('a directory that is not there is empty', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-size-'));
  t.after(() => rm(directory, { recursive: true }));
  assert.deepEqual(await directorySize(join(directory, 'absent')), { files: 0, allocatedBytes: 0 });
});
