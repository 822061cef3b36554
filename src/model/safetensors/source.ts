/** A directory in Hugging Face layout (`config.json` and `*.safetensors`) as a `WeightSource`. */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { RadixkvError } from '../../errors.js';
import { checkTensors } from '../check.js';
import type { ModelSpec } from '../spec.js';
import type { DenseMatrix, LinearMatrix, WeightSource } from '../weights.js';
import { configSpec } from './config.js';
import { FLOAT_DTYPES, SafetensorsFile, type SafetensorsTensor } from './file.js';
import { canonicalName, isDerivedBuffer } from './names.js';

const INDEX = 'model.safetensors.index.json';
const indexSchema = z.object({ weight_map: z.record(z.string(), z.string()) });

/** A tensor and the file it lies in. */
interface Placed {
  readonly file: SafetensorsFile;
  readonly tensor: SafetensorsTensor;
}

/**
 * Opens a model (llama, mistral, qwen2, qwen3 in F32, F16 or BF16; one file or shards with their index) and checks
 * that it is whole.
 * @throws RadixkvError `unsupported_model` naming what we do not build, `corrupt_model` for a damaged file or none
 */
export async function openHuggingFaceDirectory(path: string): Promise<WeightSource> {
  const configPath = join(path, 'config.json');
  const spec = configSpec(await readJson(configPath), configPath);
  const files: SafetensorsFile[] = [];
  const close = async (): Promise<void> => {
    for (const file of files) await file.close();
  };
  try {
    for (const name of await weightFiles(path)) files.push(await SafetensorsFile.open(join(path, name)));
    const tensors = placeTensors(files, spec);
    checkTensors(spec, new Map([...tensors].map(([name, { tensor }]) => [name, tensor.shape])), path);
    return new DirectorySource(spec, tensors, close);
  } catch (error) {
    await close();
    throw error;
  }
}

async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new RadixkvError('corrupt_model', `${path} is missing or no JSON`, { cause });
  }
}

/** The shards the index names, or the directory's one file. */
async function weightFiles(path: string): Promise<string[]> {
  const names = (await readdir(path)).filter((name) => name.endsWith('.safetensors')).sort();
  const corrupt = (what: string) => new RadixkvError('corrupt_model', `${path}: ${what}`);
  const index = await readIndex(path);
  if (!index) {
    const [only, ...others] = names.includes('model.safetensors') ? ['model.safetensors'] : names;
    if (only === undefined) throw corrupt('no .safetensors file');
    if (others.length > 0) throw corrupt(`several .safetensors files without ${INDEX}`);
    return [only];
  }
  const shards = [...new Set(Object.values(index.weight_map))].sort();
  for (const shard of shards) {
    // Also keeps a file from naming paths outside its directory.
    if (basename(shard) !== shard || !names.includes(shard)) throw corrupt(`shard ${shard} is missing`);
  }
  return shards;
}

async function readIndex(path: string): Promise<z.infer<typeof indexSchema> | undefined> {
  if (!(await readdir(path)).includes(INDEX)) return undefined;
  const index = indexSchema.safeParse(await readJson(join(path, INDEX)));
  if (!index.success) throw new RadixkvError('corrupt_model', `${path}: ${INDEX} has no weight_map`);
  return index.data;
}

/** Canonical name → place. A head beside tied embeddings is a copy of them and is left out. */
function placeTensors(files: readonly SafetensorsFile[], spec: ModelSpec): Map<string, Placed> {
  const placed = new Map<string, Placed>();
  for (const file of files) {
    for (const tensor of file.tensors) {
      const name = canonicalName(tensor.name);
      if (isDerivedBuffer(tensor.name) || (spec.tiedEmbeddings && name === 'output.weight')) continue;
      if (!FLOAT_DTYPES.has(tensor.dtype)) {
        throw new RadixkvError(
          'unsupported_model',
          `${file.path}: tensor ${tensor.name} has dtype ${tensor.dtype}`,
        );
      }
      if (placed.has(name))
        throw new RadixkvError('corrupt_model', `${file.path}: tensor ${tensor.name} is there twice`);
      placed.set(name, { file, tensor });
    }
  }
  return placed;
}

class DirectorySource implements WeightSource {
  readonly spec: ModelSpec;
  readonly description: string;
  readonly #tensors: ReadonlyMap<string, Placed>;
  readonly #close: () => Promise<void>;

  constructor(spec: ModelSpec, tensors: ReadonlyMap<string, Placed>, close: () => Promise<void>) {
    this.spec = spec;
    this.#tensors = tensors;
    this.#close = close;
    this.description = `safetensors ${this.#placed('blk.0.attn_q.weight').tensor.dtype}`;
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  vector(name: string): Promise<Float32Array> {
    const { file, tensor } = this.#placed(name);
    return file.values(tensor);
  }

  async dense(name: string): Promise<DenseMatrix> {
    const { file, tensor } = this.#placed(name);
    const [rows, cols] = tensor.shape;
    assert(rows !== undefined && cols !== undefined, `${name} is no matrix`);
    return { kind: 'dense', rows, cols, values: await file.values(tensor) };
  }

  exact(name: string): Promise<LinearMatrix> {
    return this.dense(name);
  }

  close(): Promise<void> {
    return this.#close();
  }

  #placed(name: string): Placed {
    const placed = this.#tensors.get(name);
    assert(placed, `the model has no tensor ${name}`);
    return placed;
  }
}
