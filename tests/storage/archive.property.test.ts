/** Archives: what is written is read back in whatever pieces, and nothing else is ever given out. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import {
  ArchiveCheck,
  type ArchivedChunk,
  ArchiveError,
  type ArchiveLimits,
  ArchiveReader,
  ChunkCipher,
  createChecksum,
  kvLayout,
  writeArchive,
} from '#storage';
import { bytesOf, chunkAfter, FINGERPRINT, LAYOUT } from './disk/chunks.js';

const checksum = await createChecksum();
const SUBJECT = { fingerprint: FINGERPRINT, layout: LAYOUT, checksum };
const LIMITS: ArchiveLimits = {
  bytesMax: 2 ** 20,
  chunksMax: 100,
  descriptionBytesMax: 1000,
  labelBytesMax: 32,
};

const cipherOf = (fill: number) =>
  new ChunkCipher(new Uint8Array(32).fill(fill), (count) =>
    globalThis.crypto.getRandomValues(new Uint8Array(count)),
  );
const CIPHER = cipherOf(1);

/** A tree of chunks of two labels: the i-th stands behind one before it, or at position 0. */
function chunksOf(parents: readonly number[]): ArchivedChunk[] {
  const chunks: ArchivedChunk[] = [];
  for (const [i, place] of parents.entries()) {
    const above = chunks.at(place % (chunks.length + 1));
    const label = above?.label ?? ['one', 'two'][i % 2]!;
    const { key, parent, tokens } = chunkAfter(above?.key, i, `secret ${label}`);
    const bytes = bytesOf({ key });
    chunks.push({ key, parent, label, tokens, bytes, checksum: checksum(bytes), isExact: i % 3 > 0 });
  }
  return chunks;
}

async function archiveOf(chunks: readonly ArchivedChunk[], cipher?: ChunkCipher): Promise<Buffer> {
  const each = async function* () {
    yield* chunks;
  };
  const description = { model: 'a model', scope: 'all', processor: 'p', chunksMax: chunks.length };
  const pieces = [];
  for await (const piece of writeArchive({ subject: SUBJECT, cipher, description, chunks: each() }))
    pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

async function* cut(bytes: Uint8Array, length: number) {
  for (let at = 0; at < bytes.byteLength; at += length) yield bytes.subarray(at, at + length);
}

interface Read {
  readonly chunks: ArchivedChunk[];
  readonly fault: string | undefined;
}

async function read(
  bytes: Uint8Array,
  {
    cipher,
    limits = LIMITS,
    subject = SUBJECT,
    pieces = 1000,
  }: {
    cipher?: ChunkCipher;
    limits?: ArchiveLimits;
    subject?: typeof SUBJECT;
    pieces?: number;
  } = {},
): Promise<Read> {
  const chunks: ArchivedChunk[] = [];
  try {
    const reader = await ArchiveReader.open(cut(bytes, pieces), { subject, cipher, limits });
    for await (const chunk of reader.chunks()) chunks.push({ ...chunk, bytes: chunk.bytes.slice() });
    return { chunks, fault: undefined };
  } catch (error) {
    assert(error instanceof ArchiveError, String(error));
    return { chunks, fault: error.fault };
  }
}

/** Without keys, which are others in an archive. */
const contents = (chunks: readonly ArchivedChunk[]) =>
  chunks.map(({ label, tokens, bytes, checksum: sum, isExact, parent }) => {
    return { label, tokens, bytes, sum, isExact, isRoot: parent === undefined };
  });

const parents = fc.array(fc.nat(10), { maxLength: 8 });
const SAMPLE = chunksOf([0, 1, 0, 2, 0]);

test('what is written is read back, however it is cut, sealed or not, and has none of the keys here', async () => {
  await fc.assert(
    fc.asyncProperty(
      parents,
      fc.boolean(),
      fc.integer({ min: 1, max: 500 }),
      async (places, isSealed, pieces) => {
        const chunks = chunksOf(places);
        const cipher = isSealed ? { cipher: CIPHER } : {};
        const bytes = await archiveOf(chunks, isSealed ? CIPHER : undefined);
        const found = await read(bytes, { ...cipher, pieces });
        assert.equal(found.fault, undefined);
        assert.deepEqual(contents(found.chunks), contents(chunks));
        for (const { key } of chunks) assert(!bytes.includes(Buffer.from(key, 'hex')));
        const check = new ArchiveCheck();
        for await (const piece of cut(bytes, pieces)) check.add(piece);
        assert(check.isWhole());
      },
    ),
  );
});

for (const [name, cipher] of [
  ['plain', undefined],
  ['sealed', CIPHER],
] as const) {
  const options = cipher === undefined ? {} : { cipher };

  suite(`an archive, ${name}`, () => {
    test('with any bit flipped gives only chunks that were written, and ends with an error', async () => {
      const bytes = await archiveOf(SAMPLE, cipher);
      const written = contents(SAMPLE);
      for (let at = 0; at < bytes.byteLength; at++) {
        const bit = 1 << (at % 8);
        bytes[at]! ^= bit;
        const { chunks, fault } = await read(bytes, options);
        const isDescription = at >= 16 && at < bytes.indexOf('RADIXKV\0');
        // What is said of the whole is believed only as far as chunks prove it; the hash tells in the end.
        assert(fault !== undefined, `byte ${at}`);
        assert.deepEqual(contents(chunks), written.slice(0, chunks.length));
        if (!isDescription)
          assert(
            fault === 'corrupt' ||
              fault === 'not_an_archive' ||
              fault === 'too_large' ||
              fault === 'truncated',
            `${at}: ${fault}`,
          );
        const check = new ArchiveCheck();
        check.add(bytes);
        assert(!check.isWhole(), `byte ${at}`);
        bytes[at]! ^= bit;
      }
    });

    test('cut off anywhere gives what came before, and is said to be cut off', async () => {
      const bytes = await archiveOf(SAMPLE, cipher);
      for (let end = 0; end < bytes.byteLength; end++) {
        const { chunks, fault } = await read(bytes.subarray(0, end), options);
        assert.equal(fault, 'truncated', `at ${end}`);
        assert.deepEqual(contents(chunks), contents(SAMPLE).slice(0, chunks.length));
      }
      assert.equal((await read(Buffer.concat([bytes, Buffer.alloc(1)]), options)).fault, 'corrupt');
    });
  });
}

suite('an archive is refused', () => {
  test('of another model, length of chunks or key, by name', async () => {
    const bytes = await archiveOf(SAMPLE);
    const sealed = await archiveOf(SAMPLE, CIPHER);
    const others = [
      [bytes, { subject: { ...SUBJECT, fingerprint: 'another' } }, 'other_model'],
      [bytes, { subject: { ...SUBJECT, layout: kvLayout({ ...LAYOUT, chunkTokens: 4 }) } }, 'other_model'],
      [sealed, {}, 'other_key'],
      [sealed, { cipher: cipherOf(2) }, 'other_key'],
      [Buffer.from('PK\u0003\u0004 something else entirely'), {}, 'not_an_archive'],
      [Buffer.alloc(0), {}, 'truncated'],
    ] as const;
    for (const [archive, options, fault] of others)
      assert.deepEqual(await read(archive, options), { chunks: [], fault });
    assert.equal((await read(bytes, { cipher: CIPHER })).fault, undefined, 'one that is not sealed says so');
  });

  test('whose description claims to be sealed, or not, and whose chunks are otherwise', async () => {
    const [plain, sealed] = [await archiveOf(SAMPLE), await archiveOf(SAMPLE, CIPHER)];
    for (const [head, body] of [
      [plain, sealed],
      [sealed, plain],
    ] as const) {
      const mixed = Buffer.concat([headOf(head), bodyOf(body)]);
      assert.deepEqual(await read(mixed, { cipher: CIPHER }), { chunks: [], fault: 'corrupt' });
    }
  });

  test('beyond a limit, before memory is taken for it', async () => {
    const bytes = await archiveOf(SAMPLE);
    assert.equal((await read(bytes, { limits: { ...LIMITS, chunksMax: 4 } })).fault, 'too_large');
    assert.equal(
      (await read(bytes, { limits: { ...LIMITS, bytesMax: bytes.byteLength - 1 } })).fault,
      'too_large',
    );
    assert.equal((await read(bytes, { limits: { ...LIMITS, bytesMax: bytes.byteLength } })).fault, undefined);
    assert.equal((await read(bytes, { limits: { ...LIMITS, descriptionBytesMax: 10 } })).fault, 'too_large');
    const first = bytes.indexOf('RADIXKV\0');
    for (const lengthAt of [24, 28, 32]) {
      const huge = Buffer.from(bytes);
      huge.writeUInt32LE(0xffff_fff0, first + lengthAt);
      assert.equal((await read(huge)).fault, 'corrupt');
    }
  });
});

const headOf = (bytes: Buffer) => bytes.subarray(0, bytes.indexOf('RADIXKV\0'));
const bodyOf = (bytes: Buffer) => bytes.subarray(bytes.indexOf('RADIXKV\0'));

const flip = (at: number) => (head: Buffer) => void head.writeUInt8(head[at]! ^ 3, at);

/** Writes the head of a chunk as someone would who knows the format, with right checksums. */
function forged(bytes: Buffer, change: (head: Buffer) => void): Buffer {
  const [first, second] = [
    bytes.indexOf('RADIXKV\0'),
    bytes.indexOf('RADIXKV\0', bytes.indexOf('RADIXKV\0') + 1),
  ];
  const out = Buffer.from(bytes);
  const headBytes = 216 + out.readUInt32LE(first + 24);
  const head = out.subarray(first, first + headBytes);
  assert(first + headBytes < second);
  change(head);
  head.writeBigUInt64LE(checksum(head.subarray(16)), 8);
  createHash('sha256')
    .update(out.subarray(0, -32))
    .digest()
    .copy(out, out.byteLength - 32);
  return out;
}

test('a chunk that a forger gave other tokens, label, parent or key is not given out', async () => {
  const bytes = await archiveOf(SAMPLE);
  const changes: ((head: Buffer) => void)[] = [
    (head) => flip(head.byteLength - 1)(head),
    (head) => head.write('tow', 220),
    ...[18, 48, 80, 112].map(flip),
  ];
  for (const change of changes)
    assert.deepEqual(await read(forged(bytes, change)), { chunks: [], fault: 'corrupt' });
});

test('a chunk whose parent left is left out with all behind it, and so is one that changed in memory', async () => {
  const chunks = chunksOf([0, 0, 1, 2]);
  const without = await read(await archiveOf(chunks.filter((_, i) => i !== 1)));
  assert.deepEqual(contents(without.chunks), contents(chunks.slice(0, 1)));
  const damaged = chunks.map((chunk, i) => (i === 2 ? { ...chunk, checksum: 1n } : chunk));
  const found = await read(await archiveOf(damaged));
  assert.equal(found.fault, undefined);
  assert.deepEqual(contents(found.chunks), contents(chunks.slice(0, 2)));
});
