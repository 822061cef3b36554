/**
 * The header of a GGUF file, checked: every tensor is inside the file, aligned, and overlaps no other.
 *
 * The parser reads past the end of a truncated file as zeros, so these checks are what finds truncation. Knows no
 * architectures.
 */
import { open, stat } from 'node:fs/promises';
import { type GGUFParseOutput, gguf } from '@huggingface/gguf';
import { RadixkvError } from '../../errors.js';
import { Metadata } from './metadata.js';
import { type TensorType, tensorType } from './tensor_types.js';

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
 * @throws RadixkvError `corrupt_model` (not a GGUF file, truncated, impossible) or `unsupported_model` (big-endian,
 * split over files, a tensor type or rank we do not read).
 */
export async function readGgufHeader(path: string): Promise<GgufHeader> {
  const { size } = await stat(path);
  const parsed = await parse(path);
  const metadata = new Metadata(new Map(Object.entries(parsed.metadata)), path);
  if (!parsed.littleEndian) throw new RadixkvError('unsupported_model', `${path}: big-endian GGUF`);
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

async function parse(path: string): Promise<GGUFParseOutput> {
  // The parser's own message for a short or foreign file is a RangeError; look at the magic first.
  const file = await open(path);
  try {
    const magic = Buffer.alloc(4);
    await file.read(magic, 0, 4, 0);
    if (magic.toString('latin1') !== 'GGUF')
      throw new RadixkvError('corrupt_model', `${path}: not a GGUF file`);
  } finally {
    await file.close();
  }
  try {
    return await gguf(path, { allowLocalFile: true });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new RadixkvError('corrupt_model', `${path}: unreadable GGUF header (${reason})`, { cause });
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
