/** When `serve` imports its model, and when it takes the one that is there. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ensureModel } from '../../src/cli/models.js';
import type { Terminal } from '../../src/cli/terminal.js';
import { parseServeOptions, type ServeOptions, type WeightsOption } from '../../src/config/options.js';
import { RadixkvError } from '../../src/errors.js';
import { ModelRegistry } from '../../src/model/registry.js';

interface Setup {
  readonly registry: ModelRegistry;
  readonly notes: string[];
  /** Weight formats of the imports so far. */
  readonly imports: WeightsOption[];
  readonly ensure: (texts?: {
    readonly model?: string;
    readonly weights?: string;
  }) => ReturnType<typeof ensureModel>;
}

/** A registry with the model `tiny`, imported from a local file with the default weights. */
async function setUp(t: TestContext, manifest = '{}'): Promise<Setup> {
  const dataDir = await mkdtemp(join(tmpdir(), 'radixkv-models-'));
  t.after(() => rm(dataDir, { recursive: true }));
  const source = join(dataDir, 'tiny.gguf');
  await writeFile(source, 'GGUF');
  const imports: WeightsOption[] = [];
  const notes: string[] = [];
  const registry = new ModelRegistry({
    directory: join(dataDir, 'models'),
    clock: { now: () => 0, sleep: async () => assert.fail('waited') },
    importModel: async ({ directory, weights }) => {
      imports.push(weights);
      await writeFile(join(directory, 'manifest.json'), manifest);
    },
  });
  const terminal: Terminal = {
    print: (line) => void notes.push(line),
    note: (line) => void notes.push(line),
    progress: () => undefined,
    frame: () => undefined,
    endProgress: () => undefined,
  };
  const options = (texts: object): ServeOptions => parseServeOptions({ dataDir, model: 'tiny', ...texts });
  await registry.import({
    name: 'tiny',
    source,
    weights: 'auto',
    replace: false,
    locate: async () => source,
  });
  return {
    registry,
    notes,
    imports,
    ensure: (texts = {}) => ensureModel(registry, options(texts), terminal),
  };
}

test('a model that is there and whole is served without an import', async (t) => {
  const s = await setUp(t);
  assert.equal((await s.ensure()).name, 'tiny');
  assert.deepEqual([s.imports, s.notes], [['auto'], []]);
});

test('a damaged model is imported again from its source, and the user is told why', async (t) => {
  const s = await setUp(t);
  const { directory } = (await s.registry.find('tiny'))!;
  await writeFile(join(directory, 'manifest.json'), 'longer than it was');
  const model = await s.ensure();
  assert.deepEqual(s.imports, ['auto', 'auto']);
  assert.match(s.notes[0]!, /importing tiny again: manifest\.json has 18 bytes instead of 2/);
  assert.deepEqual(await s.registry.verify(model, 'checksums'), []);
});

test('a model that an earlier version imported is imported again', async (t) => {
  const s = await setUp(t, '{"version": 1}');
  await s.ensure();
  assert.deepEqual(s.imports, ['auto', 'auto']);
  assert.match(s.notes[0]!, /importing tiny again: its format is version 1, and now it is \d+/);
});

test('other weights than imported are imported; "auto" takes what is there', async (t) => {
  const s = await setUp(t);
  assert.equal((await s.ensure({ weights: 'int8' })).weights, 'int8');
  assert.equal((await s.ensure({ weights: 'auto' })).weights, 'int8');
  assert.equal((await s.ensure({ weights: 'int8' })).weights, 'int8');
  assert.deepEqual(s.imports, ['auto', 'int8']);
});

test('a model that is not there is refused with the names of those that are', async (t) => {
  const s = await setUp(t);
  await assert.rejects(s.ensure({ model: 'large' }), (error) => {
    assert.ok(error instanceof RadixkvError);
    assert.equal(error.code, 'model_not_found');
    assert.match(
      error.message,
      /no model "large" in .* \(there are tiny\); import one with: radixkv model import/,
    );
    return true;
  });
});
