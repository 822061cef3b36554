/**
 * What a chunk is at rest: the codecs that turn slot bytes (see layout.ts) into file bytes and back.
 *
 * A codec is bound to a layout. It is lossless when `decode(encode(bytes))` equals `bytes` for all bytes, and the
 * identity when it even leaves them as they are, so that no pass over them is needed. A new format is one entry
 * here; ids are written into files and never given out twice. Knows no files.
 */
import assert from 'node:assert/strict';
import { narrowFloats, widenHalves } from './float16.js';
import type { KvLayout } from './layout.js';

export interface Codec {
  readonly name: CodecName;
  /** Names the format in files. */
  readonly id: number;
  readonly isLossless: boolean;
  readonly isIdentity: boolean;
  readonly encodedBytes: number;
  /** `from` is `chunkBytes` long, `out` `encodedBytes`; both start at a multiple of 4 bytes. */
  encode(from: Uint8Array, out: Uint8Array): void;
  /** The reverse. */
  decode(from: Uint8Array, out: Uint8Array): void;
}

type Dtype = KvLayout['dtype'];

interface Format {
  readonly id: number;
  /** Types of values that it takes. */
  readonly dtypes: readonly Dtype[];
  create(layout: KvLayout): Pick<Codec, 'isLossless' | 'isIdentity' | 'encodedBytes' | 'encode' | 'decode'>;
}

const FORMATS = {
  float32: {
    id: 1,
    dtypes: ['float32'],
    create: identity,
  },
  float16: {
    id: 2,
    dtypes: ['float32', 'float16'],
    create: (layout) => (layout.dtype === 'float16' ? identity(layout) : halves(layout)),
  },
} as const satisfies Record<string, Format>;

export type CodecName = keyof typeof FORMATS;

export const CODEC_NAMES: readonly CodecName[] = ['float32', 'float16'];

/** Whether a codec is of use for chunks of this layout: float32 at rest gains nothing on float16 KV. */
export function suitsLayout(name: CodecName, layout: KvLayout): boolean {
  const dtypes: readonly Dtype[] = FORMATS[name].dtypes;
  return dtypes.includes(layout.dtype);
}

/** Asserts that the codec suits the layout. */
export function createCodec(name: CodecName, layout: KvLayout): Codec {
  assert(suitsLayout(name, layout), `${name} does not suit ${layout.dtype} KV`);
  return { name, id: FORMATS[name].id, ...FORMATS[name].create(layout) };
}

/** Every codec that may have written chunks of this layout. */
export function codecsOf(layout: KvLayout): Codec[] {
  return CODEC_NAMES.filter((name) => suitsLayout(name, layout)).map((name) => createCodec(name, layout));
}

const copy = (from: Uint8Array, out: Uint8Array): void => out.set(from);

function identity(layout: KvLayout): ReturnType<Format['create']> {
  return { isLossless: true, isIdentity: true, encodedBytes: layout.chunkBytes, encode: copy, decode: copy };
}

/** float32 KV as float16: KL 1.3e-7 on the default model. */
function halves(layout: KvLayout): ReturnType<Format['create']> {
  const encodedBytes = layout.chunkBytes / 2;
  return {
    isLossless: false,
    isIdentity: false,
    encodedBytes,
    encode: (from, out) => narrowFloats(words(from), shorts(out)),
    decode: (from, out) => widenHalves(shorts(from), words(out)),
  };
}

function words(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

function shorts(bytes: Uint8Array): Uint16Array {
  return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
}
