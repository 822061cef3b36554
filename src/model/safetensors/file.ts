/**
 * One `.safetensors` file: its header, checked, and reads of single tensors.
 *
 * | bytes | content |
 * |---|---|
 * | 8 | header length n, little-endian u64 |
 * | n | JSON: name → `{dtype, shape, data_offsets: [begin, end)}` counted from the end of the header |
 * | rest | tensors, row-major, little-endian, without gaps |
 *
 * Knows no models. Every damage is `corrupt_model`.
 */
import assert from 'node:assert/strict';
import { type FileHandle, open } from 'node:fs/promises';
import { z } from 'zod';
import { RadixkvError } from '../../errors.js';
import { decodeBfloat16, decodeFloat, decodeHalf } from '../half.js';
import { readExactly } from '../read.js';

/** The format's own limit. */
const HEADER_BYTES_MAX = 100_000_000;

const DTYPE_BYTES: Readonly<Record<string, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
};

const DECODERS: ReadonlyMap<string, (bytes: Uint8Array) => Float32Array> = new Map([
  ['F32', decodeFloat],
  ['F16', decodeHalf],
  ['BF16', decodeBfloat16],
]);

/** The dtypes whose values we read. */
export const FLOAT_DTYPES: ReadonlySet<string> = new Set(DECODERS.keys());

const count = z.int().nonnegative();
const headerSchema = z.record(
  z.string(),
  z.object({ dtype: z.string(), shape: z.array(count), data_offsets: z.tuple([count, count]) }),
);

export interface SafetensorsTensor {
  readonly name: string;
  readonly dtype: string;
  /** Outermost dimension first. */
  readonly shape: readonly number[];
  /** Byte range in the file. */
  readonly start: number;
  readonly bytes: number;
}

export class SafetensorsFile {
  readonly path: string;
  readonly tensors: readonly SafetensorsTensor[];
  readonly #file: FileHandle;

  private constructor(file: FileHandle, path: string, tensors: readonly SafetensorsTensor[]) {
    this.#file = file;
    this.path = path;
    this.tensors = tensors;
  }

  /** Opens a file and checks its header; the caller closes it. */
  static async open(path: string): Promise<SafetensorsFile> {
    const file = await open(path);
    try {
      return new SafetensorsFile(file, path, await readHeader(file, path));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** A tensor's values in float32, row-major. Its dtype must be one of `FLOAT_DTYPES`. */
  async values(tensor: SafetensorsTensor): Promise<Float32Array> {
    const decode = DECODERS.get(tensor.dtype);
    assert(decode, `${tensor.name} has dtype ${tensor.dtype}`);
    return decode(
      await readExactly(this.#file, { start: tensor.start, bytes: tensor.bytes, path: this.path }),
    );
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

async function readHeader(file: FileHandle, path: string): Promise<SafetensorsTensor[]> {
  const corrupt = (what: string) => new RadixkvError('corrupt_model', `${path}: ${what}`);
  const { size } = await file.stat();
  const prefix = await readExactly(file, { start: 0, bytes: 8, path });
  const headerBytes = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  if (headerBytes > Math.min(HEADER_BYTES_MAX, size - 8)) {
    throw corrupt(`a header of ${headerBytes} bytes in a file of ${size}`);
  }
  const text = Buffer.from(await readExactly(file, { start: 8, bytes: headerBytes, path })).toString('utf8');
  const dataStart = 8 + headerBytes;
  const tensors = parseHeader(text, path).map(([name, { dtype, shape, data_offsets }]) => {
    const [begin, end] = data_offsets;
    const elementBytes = DTYPE_BYTES[dtype];
    if (elementBytes === undefined) throw corrupt(`tensor ${name} has unknown dtype ${dtype}`);
    const bytes = shape.reduce((product, length) => product * length, elementBytes);
    if (end - begin !== bytes) throw corrupt(`tensor ${name} takes ${end - begin} bytes instead of ${bytes}`);
    return { name, dtype, shape, start: dataStart + begin, bytes };
  });
  let expected = dataStart;
  for (const { name, start, bytes } of [...tensors].sort((a, b) => a.start - b.start || a.bytes - b.bytes)) {
    if (start !== expected) throw corrupt(`tensor ${name} overlaps another or leaves a gap before it`);
    expected = start + bytes;
  }
  if (expected !== size) throw corrupt(`tensors end at byte ${expected} of ${size}`);
  return tensors;
}

function parseHeader(text: string, path: string) {
  try {
    const { __metadata__: _, ...tensors } = z.record(z.string(), z.unknown()).parse(JSON.parse(text));
    return Object.entries(headerSchema.parse(tensors));
  } catch (cause) {
    throw new RadixkvError('corrupt_model', `${path}: its header is no safetensors header`, { cause });
  }
}
