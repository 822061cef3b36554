/** Opening a model by path, and fingerprints of its files. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fingerprintSource } from '../../src/model/fingerprint.js';
import { openWeights } from '../../src/model/open.js';
import { goldenPath } from '../support/golden.js';
import { assertRefused } from '../support/refused.js';
import { safetensorsBytes, tinyConfig, tinyEntries, writeDirectory } from '../support/safetensors_file.js';
import { TINY_SPEC } from '../support/tiny_model.js';

const folder = mkdtempSync(join(tmpdir(), 'radixkv-open-'));
after(() => rmSync(folder, { recursive: true }));

const GGUF = goldenPath('tiny_llama.gguf');
const FILES = {
  'config.json': tinyConfig(TINY_SPEC, 'LlamaForCausalLM'),
  'model.safetensors': safetensorsBytes(tinyEntries(TINY_SPEC)),
};
const directory = join(folder, 'model');
writeDirectory(directory, FILES);

describe('opening weights', () => {
  test('takes a .gguf file or a Hugging Face directory', async () => {
    for (const [path, description] of [
      [GGUF, 'GGUF Q4_1'],
      [directory, 'safetensors F32'],
    ] as const) {
      const source = await openWeights(path);
      assert.equal(source.description, description);
      await source.close();
    }
  });

  test('says what is wrong with another path', async () => {
    await assertRefused('model_not_found', /no model at/, () => openWeights(join(folder, 'absent.gguf')));
    const file = join(folder, 'model.onnx');
    writeFileSync(file, 'x');
    await assertRefused('unsupported_model', /neither/, () => openWeights(file));
  });
});

describe('a fingerprint', () => {
  test('of a file is the SHA-256 of its bytes, wherever it is', async () => {
    const expected = createHash('sha256').update(readFileSync(GGUF)).digest('hex');
    const copy = join(folder, 'renamed.gguf');
    copyFileSync(GGUF, copy);
    assert.equal(await fingerprintSource(GGUF), expected);
    assert.equal(await fingerprintSource(copy), expected);
  });

  test('of a directory depends on its model files and on nothing else', async () => {
    const before = await fingerprintSource(directory);
    const other = join(folder, 'other');
    writeDirectory(other, { ...FILES, 'README.md': 'read me' });
    assert.equal(await fingerprintSource(other), before);
    const changes = {
      'config.json': { changed: true },
      'model.safetensors': new Uint8Array(8),
      'tokenizer.json': {},
    };
    for (const [name, content] of Object.entries(changes)) {
      const changed = join(folder, `changed-${name}`);
      writeDirectory(changed, { ...FILES, [name]: content });
      assert.notEqual(await fingerprintSource(changed), before, name);
    }
  });

  test('reports progress up to the whole size', async () => {
    for (const path of [GGUF, directory]) {
      const seen: number[] = [];
      let total = 0;
      await fingerprintSource(path, ({ doneBytes, totalBytes }) => {
        seen.push(doneBytes);
        total = totalBytes;
      });
      assert.equal(seen.at(-1), total);
      assert.deepEqual(
        seen,
        seen.toSorted((a, b) => a - b),
      );
    }
  });
});
