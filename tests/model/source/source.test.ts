import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { RadixkvError } from '../../../src/errors.js';
import { chooseHubFiles, type HubFile } from '../../../src/model/source/hub-files.js';
import { parseSource, resolveSource, suggestName } from '../../../src/model/source/source.js';

const failsWith = (code: string, pattern: RegExp) => (error: unknown) =>
  error instanceof RadixkvError && error.code === code && pattern.test(error.message);

const listed = (...paths: string[]): HubFile[] =>
  paths.map((path) => ({ path, bytes: 1, sha256: undefined }));
const chosen = (...paths: string[]) =>
  chooseHubFiles('org/m', listed(...paths), undefined).files.map((file) => file.path);

test('a source is the alias, a Hub repository or a local path', () => {
  const hub = { kind: 'hub', repo: 'org/Name-1.5', revision: 'main', file: undefined };
  assert.deepEqual(parseSource('smollm2-135m-instruct'), { kind: 'alias' });
  assert.deepEqual(parseSource('./smollm2-135m-instruct'), {
    kind: 'local',
    path: resolve('smollm2-135m-instruct'),
  });
  assert.deepEqual(parseSource('hf:org/Name-1.5'), hub);
  assert.deepEqual(parseSource('hf:org/Name-1.5@refs/pr/1'), { ...hub, revision: 'refs/pr/1' });
  assert.deepEqual(parseSource('hf:org/Name-1.5/q/a.gguf@v2'), { ...hub, revision: 'v2', file: 'q/a.gguf' });
});

test('a malformed Hub source is refused with the form it should have', () => {
  for (const text of [
    'hf:',
    'hf:name',
    'hf:../..',
    'hf:org/..',
    'hf:org/name/file.bin',
    'hf:org/name@',
    'hf:org/na me',
  ]) {
    assert.throws(() => parseSource(text), failsWith('invalid_value', /hf:org\/name/), text);
  }
});

test('a name is taken from the last part of the source, in lower case', () => {
  const names = [
    'smollm2-135m-instruct',
    'hf:org/Name-1.5',
    'hf:org/n/Q/A.Q8_0.gguf',
    '/m/My Model.GGUF',
    '/m/.hidden',
    '/',
  ];
  assert.deepEqual(
    names.map((name) => suggestName(parseSource(name))),
    ['smollm2-135m-instruct', 'name-1.5', 'a.q8_0', 'my-model', 'hidden', 'model'],
  );
});

test('a local path must be a .gguf file or a directory with a config', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-source-'));
  t.after(() => rm(directory, { recursive: true }));
  await mkdir(join(directory, 'empty'));
  for (const file of ['a.gguf', 'a.bin', 'config.json']) await writeFile(join(directory, file), '{}');
  const endpoint = new URL('http://127.0.0.1:9');
  const hub = { endpoint, clock: { now: () => 0, sleep: async () => undefined } };
  const find = (name: string) =>
    resolveSource(parseSource(join(directory, name)), { downloadsDirectory: directory, hub });
  assert.equal(await find('a.gguf'), join(directory, 'a.gguf'));
  assert.equal(await find('.'), directory);
  await assert.rejects(find('a.bin'), failsWith('unsupported_model', /not a \.gguf file/));
  await assert.rejects(find('empty'), failsWith('unsupported_model', /no config\.json/));
  await assert.rejects(find('none.gguf'), failsWith('model_not_found', /no file or directory/));
});

test('of a sharded repository all shards and the index are taken, of other weights none', () => {
  const side = ['config.json', 'tokenizer.json', 'model.safetensors.index.json'];
  const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
  const others = ['consolidated.safetensors', 'pytorch_model.bin', 'onnx/model.onnx', 'a.gguf', 'README.md'];
  assert.deepEqual(chosen(...side, ...shards, ...others), [...side, ...shards]);
});

test('of several GGUF files a small exact one is taken, else one must be named', () => {
  assert.deepEqual(chosen('only.IQ2_XS.gguf'), ['only.IQ2_XS.gguf']);
  assert.deepEqual(chosen('m.F16.gguf', 'm.Q8_0.gguf', 'm.Q4_K_M.gguf'), ['m.Q4_K_M.gguf']);
  assert.deepEqual(chosen('m-f16.gguf', 'm-q8_0.gguf', 'mmproj-m-q4_1.gguf'), ['m-q8_0.gguf']);
  assert.throws(
    () => chosen('m.IQ2_XS.gguf', 'm.IQ1_S.gguf'),
    failsWith('unsupported_model', /it has m\.IQ2_XS\.gguf, m\.IQ1_S/),
  );
});

test('a repository without a model we can import is refused with the reason', () => {
  assert.throws(
    () => chosen('README.md', 'model.safetensors'),
    failsWith('unsupported_model', /no safetensors with config/),
  );
  assert.throws(
    () => chosen('config.json', 'model.safetensors'),
    failsWith('unsupported_model', /no tokenizer\.json/),
  );
  assert.throws(() => chosen('m-00001-of-00003.gguf'), failsWith('unsupported_model', /only split GGUF/));
  assert.throws(
    () => chooseHubFiles('org/m', listed('a.gguf'), 'b.gguf'),
    failsWith('model_not_found', /no file b\.gguf; it has a\.gguf/),
  );
});

test('unsafe file names of a repository are refused', () => {
  for (const path of [
    '../a.gguf',
    '/a.gguf',
    'a//b.gguf',
    'a\\b.gguf',
    'a/../b.gguf',
    'C:b.gguf',
    'a\0.gguf',
    './a.gguf',
  ]) {
    assert.throws(() => chosen(path), failsWith('download_failed', /unsafe name/), path);
  }
});
