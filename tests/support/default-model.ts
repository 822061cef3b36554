/**
 * The real default model for tests, imported once and shared by all test files and runs.
 *
 * The GGUF goes where `serve` keeps it (the data directory), the import to the system's temporary directory. An import
 * is named after the importer's code, so that a change of the graphs is seen by the next run. Test files run in
 * processes of their own: the registry's lock makes the others wait for the first.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseServeOptions } from '../../src/config/options.js';
import { systemClock } from '../../src/model/clock.js';
import { importModel } from '../../src/model/importer.js';
import { ModelRegistry } from '../../src/model/registry.js';
import { DEFAULT_MODEL, fetchPinnedModel } from '../../src/model/source/default-model.js';
import { hubFromEnvironment } from '../../src/model/source/hub.js';

/** @returns Directory of the default model with weights `auto` and float16 K and V. Fetches the GGUF if it is missing. */
export async function defaultModel(): Promise<string> {
  const registry = new ModelRegistry({
    directory: join(tmpdir(), 'radixkv-test-models'),
    importModel,
    clock: systemClock,
  });
  const model = await registry.import({
    name: `${DEFAULT_MODEL.alias}-${importerCode()}`,
    source: DEFAULT_MODEL.alias,
    weights: 'auto',
    replace: false,
    locate: fetchFile,
  });
  return model.directory;
}

/** @returns Path of the default model's GGUF. */
export async function defaultModelFile(): Promise<string> {
  await defaultModel(); // has it fetched with the lock held
  return fetchFile();
}

const fetchFile = (): Promise<string> =>
  fetchPinnedModel(DEFAULT_MODEL, {
    directory: join(dataDirectory(), 'downloads'),
    hub: hubFromEnvironment(process.env, systemClock),
  });

const dataDirectory = (): string =>
  parseServeOptions({ dataDir: process.env.RADIXKV_DATA_DIR || undefined }).dataDir;

/** Twelve hexadecimal digits that change with the code an import depends on. */
function importerCode(): string {
  const hash = createHash('sha256');
  for (const folder of ['model', 'text']) {
    const root = fileURLToPath(new URL(`../../src/${folder}`, import.meta.url));
    const names = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.js'),
    );
    for (const name of names.sort()) hash.update(name).update(readFileSync(join(root, name)));
  }
  return hash.digest('hex').slice(0, 12);
}
