/**
 * The imported models of a directory: list, find, import, verify, remove.
 *
 *   {directory}/{name}/manifest.json   and the graphs, weights, tokenizer: the importer's
 *   {directory}/{name}/import.json     where it came from, and size and SHA-256 of every file: ours
 *   {directory}/.importing/{name}/     imports under way
 *   {directory}/.importing/{name}.lock held while a model is imported
 *
 * A model appears, is replaced and disappears by rename, so a name holds a whole model or none, whenever the process
 * dies. Names are checked before they become paths. Knows neither formats nor where models come from.
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { WEIGHTS_OPTIONS, type WeightsOption } from '../config/options.js';
import { errnoOf } from '../errno.js';
import { RadixkvError } from '../errors.js';
import type { Clock } from './clock.js';
import { withLock } from './lock.js';
import type { OnProgress } from './progress.js';
import { sha256Of, sizeOf } from './source/download.js';

/** Writes the model at `path` (a GGUF file or a Hugging Face directory) into the empty `directory`. */
export type ImportModel = (options: {
  readonly path: string;
  readonly directory: string;
  readonly weights: WeightsOption;
  readonly onProgress?: OnProgress;
}) => Promise<void>;

const IMPORT_RECORD = z.object({
  source: z.string(),
  weights: z.enum(WEIGHTS_OPTIONS),
  /** ISO 8601. */
  importedAt: z.string(),
  files: z.array(z.object({ path: z.string(), bytes: z.number(), sha256: z.string() })),
});
type ImportRecord = z.infer<typeof IMPORT_RECORD>;

export interface RegisteredModel extends ImportRecord {
  readonly name: string;
  readonly directory: string;
}

export interface ImportRequest {
  readonly name: string;
  /** Recorded: what the user wrote. */
  readonly source: string;
  readonly weights: WeightsOption;
  /** Replaces a model of that name; otherwise an existing one is returned as it is. */
  readonly replace: boolean;
  /** Provides the path to import; called with the lock held, so that two processes don't download the same. */
  readonly locate: () => Promise<string>;
  readonly onProgress?: OnProgress | undefined;
  /** Another process is importing this model; the call waits for it. */
  readonly onWait?: (() => void) | undefined;
}

export class ModelRegistry {
  readonly #directory: string;
  readonly #importModel: ImportModel;
  readonly #clock: Clock;

  constructor(options: {
    readonly directory: string;
    readonly importModel: ImportModel;
    readonly clock: Clock;
  }) {
    this.#directory = options.directory;
    this.#importModel = options.importModel;
    this.#clock = options.clock;
  }

  /** All whole models, by name. */
  async list(): Promise<RegisteredModel[]> {
    const names = await readdir(this.#directory).catch(() => []);
    const models = await Promise.all(
      names
        .filter(isModelName)
        .sort()
        .map((name) => this.find(name)),
    );
    return models.filter((model) => model !== undefined);
  }

  /** @throws RadixkvError `invalid_value` for a name that can't be one. */
  async find(name: string): Promise<RegisteredModel | undefined> {
    const directory = this.#directoryOf(name);
    const text = await readFile(join(directory, 'import.json'), 'utf8').catch(() => undefined);
    if (text === undefined) return undefined;
    try {
      return { name, directory, ...IMPORT_RECORD.parse(JSON.parse(text)) };
    } catch (cause) {
      const advice = `remove it with: radixkv model remove ${name}`;
      throw new RadixkvError('corrupt_model', `${directory}/import.json is damaged; ${advice}`, { cause });
    }
  }

  /** @returns Whether there was a model (or its remains) of that name. */
  async remove(name: string): Promise<boolean> {
    const directory = this.#directoryOf(name);
    return withLock(this.#lockOf(name), { clock: this.#clock }, async () => {
      const parking = await this.#parking(name);
      const existed = await moveAway(directory, join(parking, 'old'));
      await rm(parking, { recursive: true, force: true });
      return existed;
    });
  }

  /**
   * Imports a model under a name, all or nothing.
   *
   * @throws RadixkvError what `locate` and the importer throw; nothing is left then.
   */
  async import(request: ImportRequest): Promise<RegisteredModel> {
    const directory = this.#directoryOf(request.name);
    const { clock, onWait } = { clock: this.#clock, onWait: request.onWait };
    return withLock(this.#lockOf(request.name), { clock, onWait }, async () => {
      const present = request.replace ? undefined : await this.find(request.name);
      if (present !== undefined) return present;
      const path = await request.locate();
      const parking = await this.#parking(request.name);
      try {
        const fresh = join(parking, 'new');
        await mkdir(fresh);
        const { weights, onProgress } = request;
        await this.#importModel({ path, directory: fresh, weights, ...(onProgress && { onProgress }) });
        const record = await this.#record(request, fresh);
        await moveAway(directory, join(parking, 'old'));
        await rename(fresh, directory);
        return { name: request.name, directory, ...record };
      } finally {
        await rm(parking, { recursive: true, force: true });
      }
    });
  }

  /**
   * Compares the files of a model with its record.
   *
   * @param depth `sizes` costs a few system calls, `checksums` reads every byte.
   * @returns What is wrong, in words; empty when nothing is.
   */
  async verify(model: RegisteredModel, depth: 'sizes' | 'checksums'): Promise<string[]> {
    const problems: string[] = [];
    for (const file of model.files) {
      const path = join(model.directory, file.path);
      const bytes = await sizeOf(path);
      if (bytes === undefined) problems.push(`${file.path} is missing`);
      else if (bytes !== file.bytes)
        problems.push(`${file.path} has ${bytes} bytes instead of ${file.bytes}`);
      else if (depth === 'checksums' && (await sha256Of(path)) !== file.sha256) {
        problems.push(`${file.path} has changed since its import`);
      }
    }
    return problems;
  }

  async #record(request: ImportRequest, directory: string): Promise<ImportRecord> {
    const files: ImportRecord['files'] = [];
    for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      const relative = path.slice(directory.length + 1);
      files.push({ path: relative, bytes: (await sizeOf(path))!, sha256: await sha256Of(path) });
    }
    if (!files.some((file) => file.path === 'manifest.json')) {
      throw new RadixkvError('internal', `the import of ${request.name} wrote no manifest.json`);
    }
    const { source, weights } = request;
    const record = { source, weights, importedAt: new Date(this.#clock.now()).toISOString(), files };
    await writeFile(join(directory, 'import.json'), `${JSON.stringify(record, null, 2)}\n`);
    return record;
  }

  /** An empty directory beside the models (same file system); clears what a killed import left. Needs the lock. */
  async #parking(name: string): Promise<string> {
    const parking = join(this.#directory, '.importing', name);
    await rm(parking, { recursive: true, force: true });
    await mkdir(parking, { recursive: true });
    return parking;
  }

  #lockOf(name: string): string {
    return join(this.#directory, '.importing', `${name}.lock`);
  }

  #directoryOf(name: string): string {
    if (!isModelName(name)) {
      throw new RadixkvError(
        'invalid_value',
        `"${name}" is not a model name: use letters, digits, ".", "_" and "-", the first a letter or digit`,
      );
    }
    return join(this.#directory, name);
  }
}

/** A name is one path component, never hidden, at most 100 characters. */
function isModelName(name: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(name) && !name.endsWith('.lock');
}

async function moveAway(directory: string, to: string): Promise<boolean> {
  try {
    await rename(directory, to);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}
