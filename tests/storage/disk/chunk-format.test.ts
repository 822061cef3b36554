/** The file of a chunk: what is written is read back, and anything else is not believed. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { suite, test } from 'node:test';
import { createChecksum, kvLayout } from '#storage';
import { createCodec } from '../../../storage/codec.js';
import { ChunkCipher } from '../../../storage/disk/chunk-cipher.js';
import { type ChunkFile, ChunkFormat } from '../../../storage/disk/chunk-format.js';
import { fileBytesOf, HEADER_BYTES, headBytesOf } from '../../../storage/disk/chunk-head.js';
import { bytesOf, chainOf, FINGERPRINT, LAYOUT } from './chunks.js';

const checksum = await createChecksum();
const float32 = kvLayout({ ...LAYOUT, dtype: 'float32' });
const chunk = { ...chainOf(2, 'a tenant')[1]!, createdAtMs: 1234.5, isExact: true };

let nonces = 0;
const cipherOf = (fill: number): ChunkCipher =>
  new ChunkCipher(new Uint8Array(32).fill(fill), (bytes) => new Uint8Array(bytes).fill(++nonces));

const options = { fingerprint: FINGERPRINT, layout: LAYOUT, codec: 'float16', checksum } as const;
const plain = new ChunkFormat(options);
const sealed = new ChunkFormat({ ...options, cipher: cipherOf(1) });
const lossy = new ChunkFormat({ ...options, layout: float32 });
const formats = { plain, encrypted: sealed, lossy };

const layoutOf = (format: ChunkFormat) => (format === lossy ? float32 : LAYOUT);

function fileOf(format: ChunkFormat): { readonly file: ChunkFile; readonly bytes: Buffer } {
  const file = format.encode(chunk, bytesOf(chunk, layoutOf(format)));
  assert(file !== undefined);
  return { file, bytes: Buffer.concat(file.parts) };
}

/** The chunk's bytes as `format` reads them from a file's bytes; undefined when it doesn't believe them. */
function read(format: ChunkFormat, file: ChunkFile, bytes: Buffer): Uint8Array | undefined {
  const into = new Uint8Array(layoutOf(format).chunkBytes);
  const stored = { ...file, key: chunk.key };
  const buffers = format.buffersFor(stored, into);
  assert(buffers !== undefined);
  bytes.copy(buffers.head);
  bytes.copy(buffers.payload, 0, buffers.head.byteLength);
  const found = format.decode(stored, buffers, into);
  if (found !== undefined) assert.equal(found, checksum(into));
  return found === undefined ? undefined : into;
}

for (const [name, format] of Object.entries(formats)) {
  suite(`a chunk file, ${name}`, () => {
    test('is read back as it was written', () => {
      const { file, bytes } = fileOf(format);
      assert.equal(file.fileBytes, bytes.byteLength);
      assert.equal(file.fileBytes, fileBytesOf(chunk, createCodec('float16', layoutOf(format)).encodedBytes));
      const read1 = read(format, file, bytes);
      if (format === lossy) assert.equal(file.isExact, false);
      else assert.deepEqual(read1, bytesOf(chunk));
      assert(read1 !== undefined);
    });

    test('is not believed with any one bit flipped', () => {
      const { file, bytes } = fileOf(format);
      for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
        const flipped = Buffer.from(bytes);
        flipped[bit >> 3]! ^= 1 << (bit & 7);
        assert.equal(read(format, file, flipped), undefined, `bit ${bit}`);
      }
    });

    test('is not believed when cut short at any byte', () => {
      const { file, bytes } = fileOf(format);
      for (let length = 0; length < bytes.byteLength; length++) {
        const cut = Buffer.alloc(bytes.byteLength);
        bytes.copy(cut, 0, 0, length);
        if (cut.equals(bytes)) continue; // ended in zeros: the length of a file is compared by who reads it
        assert.equal(read(format, file, cut), undefined, `${length} bytes`);
      }
    });

    test('tells by its head all that the catalogue needs', () => {
      const { file, bytes } = fileOf(format);
      const head = format.readHead(bytes);
      assert(head !== undefined);
      assert.equal(headBytesOf(bytes.subarray(0, HEADER_BYTES)), file.parts[0]!.byteLength);
      assert.deepEqual(
        [head.key, head.parent, head.createdAtMs, head.fileBytes, head.codecId, head.isExact],
        [chunk.key, chunk.parent, 1234.5, bytes.byteLength, file.codecId, file.isExact],
      );
      assert(format.isOwn(head));
      const meta = format.readMeta(bytes);
      assert.deepEqual(meta, { namespace: 'a tenant', tokens: chunk.tokens });
      assert(format.isTrue({ ...chunk, ...meta }, head));
      assert.equal(format.isTrue({ ...chunk, ...meta, namespace: 'another' }, head), false);
    });
  });
}

test('a file of another model, layout or key is another one’s', () => {
  const others = [
    new ChunkFormat({ ...options, fingerprint: 'another model' }),
    new ChunkFormat({ ...options, layout: kvLayout({ ...LAYOUT, headDim: 4, kvHeads: 2 }) }),
    new ChunkFormat({ ...options, cipher: cipherOf(2) }),
    sealed,
  ];
  const { file, bytes } = fileOf(plain);
  for (const other of others) {
    assert.equal(other.isOwn(plain.readHead(bytes)!), false);
    assert.equal(read(other, file, bytes), undefined);
  }
});

test('an encrypted file shows neither tokens nor namespace nor KV, and another key opens nothing', () => {
  const { file, bytes } = fileOf(sealed);
  const tokens = Buffer.from(chunk.tokens.buffer);
  for (const secret of [tokens, Buffer.from('a tenant'), Buffer.from(bytesOf(chunk)).subarray(0, 8)])
    assert.equal(bytes.includes(secret), false);
  const otherKey = new ChunkFormat({ ...options, cipher: cipherOf(3) });
  assert.equal(otherKey.readMeta(bytes), undefined);
  assert.equal(read(otherKey, file, bytes), undefined);
  const kept = sealed.sealTokens(chunk);
  assert.equal(Buffer.from(kept).includes(tokens), false);
  assert.deepEqual(sealed.openTokens(chunk.key, kept), chunk.tokens);
  assert.equal(sealed.openTokens(chainOf(1)[0]!.key, kept), undefined);
  assert.equal(otherKey.openTokens(chunk.key, kept), undefined);
});

test('bytes that changed since they were sealed are not written', () => {
  const bytes = bytesOf(chunk);
  assert(plain.encode({ ...chunk, checksum: checksum(bytes) }, bytes) !== undefined);
  assert.equal(plain.encode({ ...chunk, checksum: 1n }, bytes), undefined);
});

test('KV that came through a lossy codec once is never called exact again', () => {
  assert.equal(plain.encode(chunk, bytesOf(chunk))?.isExact, true);
  assert.equal(plain.encode({ ...chunk, isExact: false }, bytesOf(chunk))?.isExact, false);
});

test('a file has the same bytes in every release that writes this version', () => {
  const digest = createHash('sha256').update(fileOf(plain).bytes).digest('hex');
  assert.equal(digest, 'abb7dbc6e222586dc798fb88c04aa3fecf0b8ee3a7fa543a42b3bdf0b055a294');
});
