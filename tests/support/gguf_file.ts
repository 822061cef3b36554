/**
 * Writes small GGUF v3 files for tests: metadata of the few types the importer reads, and tensors of raw bytes.
 */
import { writeFileSync } from 'node:fs';

export type GgufValue = string | number | boolean | readonly string[] | { readonly uint32: number };

export interface GgufFileTensor {
  readonly name: string;
  /** As in the file: the innermost dimension first. */
  readonly shape: readonly number[];
  readonly type: number;
  readonly data: Uint8Array;
  /** Where to claim the data is, relative to the data section, when not where it is. */
  readonly claimedOffset?: number;
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);

/** A plain number is written as float32, `{ uint32 }` as an integer. */
function typedValue(value: GgufValue): Buffer {
  if (typeof value === 'string') return Buffer.concat([u32(8), text(value)]);
  if (typeof value === 'boolean') return Buffer.concat([u32(7), Buffer.from([value ? 1 : 0])]);
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    return Buffer.concat([u32(6), bytes]);
  }
  if ('uint32' in value) return Buffer.concat([u32(4), u32(value.uint32)]);
  return Buffer.concat([u32(9), u32(8), u64(value.length), ...value.map(text)]);
}

const pad = (bytes: Uint8Array): Buffer =>
  Buffer.concat([bytes, Buffer.alloc((32 - (bytes.length % 32)) % 32)]);

/** Metadata of undefined is left out. */
export function writeGguf(
  path: string,
  metadata: Readonly<Record<string, GgufValue | undefined>>,
  tensors: readonly GgufFileTensor[],
): void {
  const entries = Object.entries(metadata).flatMap(([key, value]) =>
    value === undefined ? [] : [Buffer.concat([text(key), typedValue(value)])],
  );
  const infos: Buffer[] = [];
  const data: Buffer[] = [];
  let offset = 0;
  for (const tensor of tensors) {
    const place = u64(tensor.claimedOffset ?? offset);
    infos.push(
      Buffer.concat([
        text(tensor.name),
        u32(tensor.shape.length),
        ...tensor.shape.map(u64),
        u32(tensor.type),
        place,
      ]),
    );
    data.push(pad(tensor.data));
    offset += data.at(-1)!.length;
  }
  const counts = [u64(tensors.length), u64(entries.length)];
  const header = Buffer.concat([Buffer.from('GGUF'), u32(3), ...counts, ...entries, ...infos]);
  writeFileSync(path, Buffer.concat([pad(header), ...data]));
}
