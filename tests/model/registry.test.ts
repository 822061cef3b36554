import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { RadixkvError } from '../../src/errors.js';
import type { Clock } from '../../src/model/clock.js';
import { type ImportModel, type ImportRequest, ModelRegistry } from '../../src/model/registry.js';

const NOW = Date.UTC(2030, 0, 1);

/** Writes what an importer writes, with the source path as its content. */
const importTiny: ImportModel = async ({ path, directory, weights, onProgress }) => {
  await mkdir(join(directory, 'tokenizer'));
  await writeFile(join(directory, 'manifest.json'), JSON.stringify({ weights }));
  await writeFile(join(directory, 'tokenizer', 'tokenizer.json'), '{}');
  await writeFile(join(directory, 'weights.bin'), path);
  onProgress?.({ phase: 'import', done: 1, total: 1 });
};

/** Fails at its end, when the files are written. */
const broken: ImportModel = async (options) => {
  await importTiny(options);
  throw new RadixkvError('unsupported_model', 'architecture mamba');
};

const refused = (error: unknown) => error instanceof RadixkvError && error.code === 'invalid_value';
const downloadedTwice = async () => assert.fail('downloaded twice');

interface Setup {
  readonly directory: string;
  readonly open: (importModel?: ImportModel, clock?: Partial<Clock>) => ModelRegistry;
}

async function setUp(t: TestContext): Promise<Setup> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-registry-'));
  t.after(() => rm(directory, { recursive: true }));
  const clock: Clock = { now: () => NOW, sleep: async () => assert.fail('waited for a lock') };
  const open: Setup['open'] = (importModel = importTiny, part = {}) =>
    new ModelRegistry({ directory, importModel, clock: { ...clock, ...part } });
  return { directory, open };
}

const request = (part: Partial<ImportRequest> = {}): ImportRequest => ({
  name: 'tiny',
  source: 'hf:org/tiny',
  weights: 'auto',
  replace: false,
  locate: async () => '/downloads/tiny.gguf',
  ...part,
});

const weightsOf = (directory: string) => readFile(join(directory, 'tiny', 'weights.bin'), 'utf8');
const visible = async (directory: string) =>
  (await readdir(directory)).filter((name) => !name.startsWith('.'));

test('an imported model is listed with its source, weights, time and the checksum of every file', async (t) => {
  const { open } = await setUp(t);
  await open().import(request());
  const [model, ...others] = await open().list();
  assert.deepEqual(others, []);
  assert.equal(model!.name, 'tiny');
  assert.equal(model!.source, 'hf:org/tiny');
  assert.equal(model!.weights, 'auto');
  assert.equal(model!.importedAt, '2030-01-01T00:00:00.000Z');
  assert.deepEqual(model!.files.map((file) => file.path).sort(), [
    'manifest.json',
    'tokenizer/tokenizer.json',
    'weights.bin',
  ]);
  assert.deepEqual(await open().verify(model!, 'checksums'), []);
  assert.deepEqual(await open().find('tiny'), model);
});

test('a missing models directory is an empty list', async (t) => {
  const { directory } = await setUp(t);
  const registry = new ModelRegistry({
    directory: join(directory, 'none'),
    importModel: importTiny,
    clock: { now: () => NOW, sleep: async () => undefined },
  });
  assert.deepEqual(await registry.list(), []);
  assert.equal(await registry.find('tiny'), undefined);
});

test('a failed import leaves no model, and the next one succeeds', async (t) => {
  const { directory, open } = await setUp(t);
  await assert.rejects(open(broken).import(request()), /architecture mamba/);
  assert.deepEqual(await visible(directory), []);
  assert.deepEqual(await readdir(join(directory, '.importing')), []);
  await open().import(request());
  assert.equal(await weightsOf(directory), '/downloads/tiny.gguf');
});

test('a failed replacement keeps the old model', async (t) => {
  const { directory, open } = await setUp(t);
  await open().import(request());
  const failing = open(async () => {
    throw new Error('disk full');
  });
  await assert.rejects(failing.import(request({ replace: true })), /disk full/);
  assert.equal(await weightsOf(directory), '/downloads/tiny.gguf');
});

test('an import without a manifest is refused', async (t) => {
  const { directory, open } = await setUp(t);
  await assert.rejects(open(async () => undefined).import(request()), /no manifest\.json/);
  assert.deepEqual(await visible(directory), []);
});

test('an import replaces a model only when it is told to', async (t) => {
  const { directory, open } = await setUp(t);
  await open().import(request());
  const other = { locate: async () => '/other.gguf', weights: 'int8' as const };
  const kept = await open().import(request({ ...other, locate: async () => assert.fail('downloaded') }));
  assert.equal(kept.weights, 'auto');
  const replaced = await open().import(request({ ...other, replace: true }));
  assert.equal(replaced.weights, 'int8');
  assert.equal(await weightsOf(directory), '/other.gguf');
  assert.deepEqual(await readdir(join(directory, '.importing')), []);
});

test('two imports of one model at the same time download and import it once', async (t) => {
  const { open } = await setUp(t);
  const events: string[] = [];
  let download: ((path: string) => void) | undefined;
  let first: Promise<unknown> = Promise.resolve();
  await new Promise<void>((downloading) => {
    const locate = () => {
      events.push('download');
      downloading();
      return new Promise<string>((settle) => {
        download = settle;
      });
    };
    first = open().import(request({ locate }));
  });
  // The waiting import sleeps: then the first one goes on.
  const sleep = async () => {
    download?.('/downloads/tiny.gguf');
    await first;
  };
  const onWait = () => void events.push('wait');
  const second = open(importTiny, { sleep }).import(request({ locate: downloadedTwice, onWait }));
  assert.deepEqual(await second, await first);
  assert.deepEqual(events, ['download', 'wait']);
});

test('the lock and the remains of a killed import are taken over', async (t) => {
  const cases = [
    { holder: { pid: 2 ** 30, host: hostname() }, age: 0 }, // no such process
    { holder: { pid: process.pid, host: 'elsewhere' }, age: 61_000 }, // not touched for a minute
  ];
  for (const { holder, age } of cases) {
    const { directory, open } = await setUp(t);
    await mkdir(join(directory, '.importing', 'tiny', 'new'), { recursive: true });
    await writeFile(join(directory, '.importing', 'tiny', 'new', 'half.bin'), 'x');
    const lock = join(directory, '.importing', 'tiny.lock');
    await writeFile(lock, JSON.stringify(holder));
    await utimes(lock, new Date(NOW - age), new Date(NOW - age));
    await open().import(request());
    assert.deepEqual(await readdir(join(directory, 'tiny')).then((names) => names.sort()), [
      'import.json',
      'manifest.json',
      'tokenizer',
      'weights.bin',
    ]);
    assert.deepEqual(await readdir(join(directory, '.importing')), []);
  }
});

test('a lock whose holder may live is waited for', async (t) => {
  const { directory, open } = await setUp(t);
  await mkdir(join(directory, '.importing'));
  const lock = join(directory, '.importing', 'tiny.lock');
  await writeFile(lock, JSON.stringify({ pid: 1, host: 'elsewhere' }));
  await utimes(lock, new Date(NOW - 59_000), new Date(NOW - 59_000));
  const slept: number[] = [];
  const registry = open(importTiny, {
    sleep: async (ms) => {
      slept.push(ms);
      if (slept.length === 3) await rm(lock);
    },
  });
  await registry.import(request());
  assert.equal(slept.length, 3);
});

test('a changed, shortened or missing file is reported by name', async (t) => {
  const { directory, open } = await setUp(t);
  const model = await open().import(request());
  const path = join(directory, 'tiny', 'weights.bin');
  const original = await readFile(path);
  original[0] = original[0]! ^ 1;
  await writeFile(path, original);
  assert.deepEqual(await open().verify(model, 'sizes'), []);
  assert.deepEqual(await open().verify(model, 'checksums'), ['weights.bin has changed since its import']);
  await writeFile(path, 'short');
  assert.deepEqual(await open().verify(model, 'sizes'), ['weights.bin has 5 bytes instead of 20']);
  await rm(path);
  assert.deepEqual(await open().verify(model, 'sizes'), ['weights.bin is missing']);
});

test('a removed model is gone; removing it again says that there was none', async (t) => {
  const { directory, open } = await setUp(t);
  await open().import(request());
  assert.equal(await open().remove('tiny'), true);
  assert.equal(await open().find('tiny'), undefined);
  assert.deepEqual(await visible(directory), []);
  assert.equal(await open().remove('tiny'), false);
});

test('a damaged record is an error that says how to get rid of it, and can be removed', async (t) => {
  const { directory, open } = await setUp(t);
  await open().import(request());
  await writeFile(join(directory, 'tiny', 'import.json'), '{"files":');
  await assert.rejects(open().find('tiny'), /radixkv model remove tiny/);
  assert.equal(await open().remove('tiny'), true);
});

test('a name that is not one path component is refused by every operation', async (t) => {
  const { open } = await setUp(t);
  for (const name of [
    '',
    '.',
    '..',
    '../tiny',
    'a/b',
    'a\\b',
    '/etc',
    '.importing',
    '-x',
    'a b',
    'tiny.lock',
    'a'.repeat(101),
  ]) {
    await assert.rejects(open().find(name), refused, name);
    await assert.rejects(open().remove(name), refused, name);
    await assert.rejects(open().import(request({ name })), refused, name);
  }
});
