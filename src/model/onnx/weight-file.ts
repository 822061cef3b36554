/**
 * The external weights file that a model's graphs share: tensors one after another, each at a multiple of 4,096
 * bytes so that the file can be mapped into memory. Knows no model.
 */
import { type FileHandle, open } from 'node:fs/promises';
import type { Element, ExternalTensor } from './graph.js';

const ALIGNMENT_BYTES = 4096;

export class WeightFile {
  readonly tensors = new Map<string, ExternalTensor>();
  readonly #file: FileHandle;
  #end = 0;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Creates the file; it must not exist. */
  static async create(path: string): Promise<WeightFile> {
    return new WeightFile(await open(path, 'wx'));
  }

  /** Appends a tensor, whose bytes are those of `data`. */
  async put(
    name: string,
    element: Element,
    dims: readonly number[],
    data: Float32Array | Uint8Array,
  ): Promise<void> {
    const offset = Math.ceil(this.#end / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, offset + done);
      done += bytesWritten;
    }
    this.#end = offset + bytes.length;
    this.tensors.set(name, { element, dims, offset, length: bytes.length });
  }

  /** Flushes to the disk and closes. */
  async close(): Promise<void> {
    await this.#file.sync();
    await this.#file.close();
  }
}
