/**
 * A `.gguf` file as a `WeightSource`: each tensor's bytes are read at its offset when asked for, never the whole file.
 */
import assert from 'node:assert/strict';
import { type FileHandle, open } from 'node:fs/promises';
import { checkTensors } from '../check.js';
import { readExactly } from '../read.js';
import type { ModelSpec } from '../spec.js';
import type { DenseMatrix, LinearMatrix, WeightSource } from '../weights.js';
import { repack } from './groups.js';
import { type GgufHeader, type GgufTensor, readGgufHeader } from './header.js';
import { ggufSpec } from './spec.js';

const ROPE_FACTORS = 'rope_freqs.weight';

/**
 * Opens a GGUF model (llama, mistral, qwen2, qwen3) and checks that it is whole.
 * @throws RadixkvError `unsupported_model` naming what we do not build, `corrupt_model` for a damaged file
 */
export async function openGguf(path: string): Promise<WeightSource> {
  const header = await readGgufHeader(path);
  const file = await open(path);
  try {
    const factors = header.tensors.get(ROPE_FACTORS);
    const spec = ggufSpec(header, factors && (await decode(file, factors, path)), path);
    const shapes = new Map(
      [...header.tensors.values()].map(({ name, dims, rows, cols }) => [
        name,
        dims === 1 ? [cols] : [rows, cols],
      ]),
    );
    shapes.delete(ROPE_FACTORS);
    checkTensors(spec, shapes, path);
    return new GgufSource(file, path, header, spec);
  } catch (error) {
    await file.close();
    throw error;
  }
}

const read = (file: FileHandle, { start, bytes }: GgufTensor, path: string): Promise<Uint8Array> =>
  readExactly(file, { start, bytes, path });

const decode = async (file: FileHandle, tensor: GgufTensor, path: string): Promise<Float32Array> =>
  tensor.type.decode(await read(file, tensor, path));

class GgufSource implements WeightSource {
  readonly spec: ModelSpec;
  readonly description: string;
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #tensors: ReadonlyMap<string, GgufTensor>;

  constructor(file: FileHandle, path: string, header: GgufHeader, spec: ModelSpec) {
    this.#file = file;
    this.#path = path;
    this.#tensors = header.tensors;
    this.spec = spec;
    this.description = `GGUF ${dominantType(header.tensors)}`;
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  async vector(name: string): Promise<Float32Array> {
    return decode(this.#file, this.#tensor(name), this.#path);
  }

  async dense(name: string): Promise<DenseMatrix> {
    const tensor = this.#tensor(name);
    const values = await decode(this.#file, tensor, this.#path);
    return { kind: 'dense', rows: tensor.rows, cols: tensor.cols, values };
  }

  async exact(name: string): Promise<LinearMatrix> {
    const tensor = this.#tensor(name);
    const { blocks } = tensor.type;
    if (!blocks) return this.dense(name);
    return repack(blocks, await read(this.#file, tensor, this.#path), tensor);
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #tensor(name: string): GgufTensor {
    const tensor = this.#tensors.get(name);
    assert(tensor, `the model has no tensor ${name}`);
    return tensor;
  }
}

/** The type that most layer weights have; embeddings and norms usually differ from it. */
function dominantType(tensors: ReadonlyMap<string, GgufTensor>): string {
  const elements = new Map<string, number>();
  for (const { name, type, rows, cols } of tensors.values()) {
    if (name.startsWith('blk.')) elements.set(type.name, (elements.get(type.name) ?? 0) + rows * cols);
  }
  const [first] = [...elements].sort((a, b) => b[1] - a[1]);
  assert(first, 'a checked model has layers');
  return first[0];
}
