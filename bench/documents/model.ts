/** A model for a benchmark of the service, in a temporary directory beside what the service keeps. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseServeOptions, type ServeOptions, type WeightsOption } from '../../src/config/options.js';
import { importModel } from '../../src/model/importer.js';
import { type Backend, type BackendOptions, createBackend } from '../../src/server.js';

/**
 * Imports a model, serves it and closes all of it afterwards.
 *
 * @param options.serve what differs from the defaults
 */
export async function withService<T>(
  options: {
    readonly gguf: string;
    readonly weights: WeightsOption;
    readonly serve: (modelDirectory: string, defaults: ServeOptions) => Promise<Partial<BackendOptions>>;
  },
  use: (backend: Backend, modelDirectory: string) => Promise<T>,
): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-documents-'));
  const modelDirectory = join(directory, 'model');
  try {
    await mkdir(modelDirectory);
    await importModel({ path: options.gguf, directory: modelDirectory, weights: options.weights });
    const defaults = parseServeOptions({ dataDir: directory });
    const backend = await createBackend({
      ...defaults,
      modelDirectory,
      ...(await options.serve(modelDirectory, defaults)),
    });
    try {
      return await use(backend, modelDirectory);
    } finally {
      await backend.close();
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
