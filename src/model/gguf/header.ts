/**
 * The header of a GGUF file, checked: every tensor is inside the file, aligned, and overlaps no other.
 *
 * The parser reads past the end of a truncated file as zeros, so these checks are what finds truncation. Knows no
 * architectures.
 */
import { open, stat } from 'node:fs/promises';
import { type GGUFParseOutput, gguf } from '@huggingface/gguf';
import { RadixkvError } from '../../errors.js';
import { readExactly } from '../read.js';
import { Metadata } from './metadata.js';
import { type TensorType, tensorType } from './tensor_types.js';

/** Magic, u32 version, u64 tensor count, u64 value count. */
const PREAMBLE_BYTES = 24;
/** An empty name, one dimension, type and offset; an empty key, type and one byte. */
const TENSOR_INFO_BYTES_MIN = 32;
const VALUE_BYTES_MIN = 13;

export interface GgufTensor {
  readonly name: string;
  readonly type: TensorType;
  /** Rows of a matrix, 1 for a vector; `cols` neighbours lie together in the file. */
  readonly dims: 1 | 2;
  readonly rows: number;
  readonly cols: number;
  /** Byte range in the file. */
  readonly start: number;
  readonly bytes: number;
}

export interface GgufHeader {
  readonly metadata: Metadata;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/**
 * Reads and checks a file's header.
 * @throws RadixkvError `corrupt_model` (not a GGUF file, truncated, impossible) or `unsupported_model` (an old
 * version, big-endian, split over files, a tensor type or rank we do not read).
 */
export async function readGgufHeader(path: string): Promise<GgufHeader> {
  const { size } = await stat(path);
  const parsed = await parse(path, size);
  const metadata = new Metadata(new Map(Object.entries(parsed.metadata)), path);
  if ((metadata.optionalNumber('split.count') ?? 1) > 1) {
    throw new RadixkvError('unsupported_model', `${path}: a GGUF model split over several files`);
  }
  const alignment = metadata.optionalNumber('general.alignment') ?? 32;
  const tensors = parsed.tensorInfos.map((info) => checkedTensor(info, parsed, { path, size, alignment }));
  const byStart = [...tensors].sort((a, b) => a.start - b.start);
  for (const [i, tensor] of byStart.entries()) {
    const next = byStart[i + 1];
    if (next && next.start < tensor.start + tensor.bytes) {
      throw new RadixkvError('corrupt_model', `${path}: tensors ${tensor.name} and ${next.name} overlap`);
    }
  }
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  if (byName.size !== tensors.length)
    throw new RadixkvError('corrupt_model', `${path}: two tensors have one name`);
  return { metadata, tensors: byName };
}

async function parse(path: string, size: number): Promise<GGUFParseOutput> {
  await checkPreamble(path, size);
  try {
    return await gguf(path, { allowLocalFile: true });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new RadixkvError('corrupt_model', `${path}: unreadable GGUF header (${reason})`, { cause });
  }
}

/** Magic, version, and counts that fit the file; the parser would spend minutes on counts that do not. */
async function checkPreamble(path: string, size: number): Promise<void> {
  const file = await open(path);
  try {
    const bytes = Buffer.from(
      await readExactly(file, { start: 0, bytes: Math.min(size, PREAMBLE_BYTES), path }),
    );
    if (bytes.toString('latin1', 0, 4) !== 'GGUF' || bytes.length < PREAMBLE_BYTES) {
      throw new RadixkvError('corrupt_model', `${path}: not a GGUF file`);
    }
    const version = bytes.readUInt32LE(4);
    if (version !== 2 && version !== 3) {
      throw new RadixkvError(
        'unsupported_model',
        `${path}: GGUF version ${version} (or big-endian) is not supported`,
      );
    }
    const tensors = Number(bytes.readBigUInt64LE(8));
    const values = Number(bytes.readBigUInt64LE(16));
    if (tensors * TENSOR_INFO_BYTES_MIN + values * VALUE_BYTES_MIN > size) {
      throw new RadixkvError(
        'corrupt_model',
        `${path}: ${tensors} tensors and ${values} values can't be in ${size} bytes`,
      );
    }
  } finally {
    await file.close();
  }
}

function checkedTensor(
  info: GGUFParseOutput['tensorInfos'][number],
  parsed: GGUFParseOutput,
  { path, size, alignment }: { readonly path: string; readonly size: number; readonly alignment: number },
): GgufTensor {
  const corrupt = (what: string) =>
    new RadixkvError('corrupt_model', `${path}: tensor "${info.name}" ${what}`);
  const type = tensorType(info.dtype);
  if (!type) {
    throw new RadixkvError('unsupported_model', `${path}: tensor ${info.name} has type number ${info.dtype}`);
  }
  const [cols = 1, rows = 1, ...outer] = info.shape.map(Number);
  const dims = info.shape.length;
  if (info.name === '' || dims === 0)
    throw corrupt('has no name or no shape: the file is truncated or damaged');
  if (outer.some((count) => count !== 1)) {
    throw new RadixkvError('unsupported_model', `${path}: tensor ${info.name} has ${dims} dimensions`);
  }
  const bytes = ((rows * cols) / type.blockElements) * type.blockBytes;
  if (rows < 1 || cols < 1 || cols % type.blockElements !== 0) {
    throw corrupt(`has shape ${info.shape.join(' × ')}, impossible for ${type.name}`);
  }
  const start = Number(parsed.tensorDataOffset + info.offset);
  if (Number(info.offset) % alignment !== 0) throw corrupt(`is not aligned to ${alignment} bytes`);
  if (start + bytes > size)
    throw corrupt(`ends ${start + bytes - size} bytes after the file: it is truncated`);
  return { name: info.name, type, dims: dims === 1 ? 1 : 2, rows, cols, start, bytes };
}
