/**
 * Model files that were made to do harm: they lead elsewhere, never end, or claim to be larger than anything. The import
 * refuses each with an error of its own, reads nothing for ever, tells nothing of what a link leads to, and writes
 * nowhere but into its own directory.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { RadixkvError } from '../../src/errors.js';
import { WEIGHTS_FILE } from '../../src/model/graphs/trunk.js';
import { importModel } from '../../src/model/importer.js';
import { MODEL_FILES } from '../../src/model/manifest.js';
import { testBackend, tinyModel } from '../support/backend.js';
import { safetensorsBytes, tinyConfig, tinyEntries, writeDirectory } from '../support/safetensors_file.js';
import { TINY_SPEC } from '../support/tiny_model.js';

const folder = mkdtempSync(join(tmpdir(), 'radixkv-hostile-'));
after(() => rmSync(folder, { recursive: true }));

const SECRET = 'root:x:0:0:a line that nobody may see';
const secret = join(folder, 'secret.txt');
writeFileSync(secret, SECRET);

const CONFIG = tinyConfig(TINY_SPEC, 'LlamaForCausalLM');
const WEIGHTS = safetensorsBytes(tinyEntries(TINY_SPEC));

/** A header that says what it likes, before as many bytes as `bytes`. */
function safetensors(
  header: object,
  { headerBytes, bytes = 0 }: { headerBytes?: bigint; bytes?: number } = {},
) {
  const text = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(headerBytes ?? BigInt(text.length));
  return Buffer.concat([prefix, text, Buffer.alloc(bytes)]);
}

const tensor = (shape: number[], end: number) => ({ dtype: 'F32', shape, data_offsets: [0, end] });

/** A pipe to which nobody writes. */
const pipe = (path: string) => execFileSync('mkfifo', [path]);

type Prepare = (directory: string) => void;

const replace =
  (name: string, by: (path: string) => void): Prepare =>
  (directory) => {
    rmSync(join(directory, name), { force: true });
    by(join(directory, name));
  };
const link = (name: string, target: string): Prepare => replace(name, (path) => symlinkSync(target, path));
const put = (name: string, content: string | Uint8Array): Prepare =>
  replace(name, (path) => writeFileSync(path, content));
const config = (changes: object): Prepare => put('config.json', JSON.stringify({ ...CONFIG, ...changes }));
const index = (shard: string): Prepare =>
  put('model.safetensors.index.json', JSON.stringify({ weight_map: { 'model.norm.weight': shard } }));

const hostile: [what: string, prepare: Prepare][] = [
  ['config.json is a link to a secret', link('config.json', secret)],
  ['config.json is a link to a device without an end', link('config.json', '/dev/zero')],
  ['config.json is a pipe', replace('config.json', pipe)],
  ['config.json is a directory', replace('config.json', (path) => mkdirSync(path))],
  ['config.json is a link to itself', link('config.json', 'config.json')],
  [
    'config.json is larger than a text can be',
    replace('config.json', (path) => {
      writeFileSync(path, '');
      truncateSync(path, 300 * 2 ** 20);
    }),
  ],
  ['the weights are a link to a secret', link('model.safetensors', secret)],
  ['the weights are a link to a device without an end', link('model.safetensors', '/dev/zero')],
  ['the weights are a pipe', replace('model.safetensors', pipe)],
  ['the weights are a link that leads nowhere', link('model.safetensors', 'nowhere')],
  ['tokenizer.json is a link to a device without an end', link('tokenizer.json', '/dev/zero')],
  ['chat_template.jinja is a pipe', replace('chat_template.jinja', pipe)],
  ['a file that nobody asked for is a pipe', replace('other.json', pipe)],
  ['the index names a file above', index('../secret.safetensors')],
  ['the index names a file of the system', index('/etc/passwd')],
  ['the index names a file below', index('sub/model.safetensors')],
  ['the index names nothing', index('')],
  ['the header is longer than memory', put('model.safetensors', safetensors({}, { headerBytes: 2n ** 62n }))],
  [
    'the header has a negative length',
    put('model.safetensors', safetensors({}, { headerBytes: 2n ** 64n - 1n })),
  ],
  [
    'a tensor has 2^52 values',
    put('model.safetensors', safetensors({ 'model.norm.weight': tensor([2 ** 52], 2 ** 54) })),
  ],
  [
    'a tensor begins before the file',
    put('model.safetensors', safetensors({ x: { ...tensor([1], 4), data_offsets: [-4, 0] } })),
  ],
  [
    'a tensor is named like a path',
    put('model.safetensors', safetensors({ '../../../etc/passwd': tensor([1], 4) }, { bytes: 4 })),
  ],
  [
    'a tensor is named __proto__',
    put(
      'model.safetensors',
      Buffer.concat([
        safetensors({}, { headerBytes: 62n }).subarray(0, 8),
        Buffer.from('{"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'),
        Buffer.alloc(4),
      ]),
    ),
  ],
  ['there are 10^15 layers', config({ num_hidden_layers: 1e15 })],
  ['the vocabulary has 10^15 words', config({ vocab_size: 1e15 })],
  ['a row is 10^300 wide', config({ hidden_size: 1e300 })],
  ['there is a fraction of a layer', config({ num_hidden_layers: 0.5 })],
];

suite('the import refuses a model, and does no harm, when', { skip: process.platform === 'win32' }, () => {
  for (const [at, [what, prepare]] of hostile.entries()) {
    test(what, async () => {
      const world = join(folder, String(at));
      const [source, target] = [join(world, 'source'), join(world, 'target')];
      mkdirSync(target, { recursive: true });
      writeDirectory(source, { 'config.json': CONFIG, 'model.safetensors': WEIGHTS });
      prepare(source);
      const before = readdirSync(source);
      const importing = importModel({ path: source, directory: target, weights: 'auto' });
      await assert.rejects(importing, (error) => {
        assert(error instanceof RadixkvError, String(error));
        assert.match(error.code, /^(corrupt|unsupported)_model$/);
        assert(!error.message.includes('nobody may see'), error.message);
        assert(error.message.length < 1000, 'no dump of a file');
        return true;
      });
      assert.deepEqual(readdirSync(source), before);
      assert.deepEqual(readdirSync(world).sort(), ['source', 'target']);
      assert.equal(readFileSync(secret, 'utf8'), SECRET);
    });
  }

  test('a .gguf file is a pipe', async () => {
    const path = join(folder, 'model.gguf');
    pipe(path);
    const directory = mkdtempSync(join(folder, 'target-'));
    await assert.rejects(importModel({ path, directory, weights: 'auto' }), { code: 'corrupt_model' });
  });
});

test('an imported graph that names weights outside its directory is not loaded', async (t) => {
  const directory = join(folder, 'imported');
  cpSync(await tinyModel(), directory, { recursive: true });
  const outside = `../${'x'.repeat(WEIGHTS_FILE.length - 3)}`;
  cpSync(join(directory, WEIGHTS_FILE), join(directory, outside));
  for (const name of [MODEL_FILES.prefill, MODEL_FILES.decode]) {
    const bytes = readFileSync(join(directory, name)).toString('latin1');
    assert(bytes.includes(WEIGHTS_FILE));
    writeFileSync(join(directory, name), bytes.replaceAll(WEIGHTS_FILE, outside), 'latin1');
  }
  await assert.rejects(testBackend(t, { modelDirectory: directory }), (error) => {
    assert(error instanceof RadixkvError, String(error));
    assert.equal(error.code, 'engine_failed');
    assert.match(error.message, /external data/i);
    return true;
  });
});
