/** The checksum of chunk bytes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createChecksum } from '#storage';

const checksum = await createChecksum();

test('it is XXH64', () => {
  assert.equal(checksum(new Uint8Array(0)), 0xef46db3751d8e999n);
  assert.equal(checksum(new TextEncoder().encode('abc')), 0x44bc2cf5ad770999n);
});

test('any flipped bit is detected', () => {
  const bytes = Uint8Array.from({ length: 257 }, (_, i) => i * 31);
  const sound = checksum(bytes);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    assert.notEqual(checksum(bytes), sound, `bit ${bit}`);
    bytes[bit >> 3]! ^= 1 << (bit & 7);
  }
  assert.equal(checksum(bytes), sound);
});

test('bytes in shared memory hash as their copy does', () => {
  const shared = new Uint8Array(new SharedArrayBuffer(96), 32, 64).fill(7);
  assert.equal(checksum(shared), checksum(new Uint8Array(64).fill(7)));
});
