/**
 * Chunk keys. The golden keys were made with Python's hashlib, not with this code:
 *
 *   f = lambda b: len(b).to_bytes(4, 'little') + b
 *   key = lambda fp, salt, parent, tokens: sha256(f(b'radixkv-chunk-1') + f(fp) + f(salt) + f(parent)
 *         + f(b''.join(t.to_bytes(4, 'little', signed=True) for t in tokens))).hexdigest()
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chunkKey } from '#storage';

const first = { fingerprint: 'model', salt: 'tenant', parent: undefined, tokens: Int32Array.of(1, 2, 70000) };

test('a key is the same in every process', () => {
  const parent = chunkKey(first);
  assert.equal(parent, '54ccad80b4c7b4df1f81f06a8b6145cdd64c472315f79bdbb93c4dd192383d22');
  assert.equal(
    chunkKey({ ...first, salt: 'é', parent, tokens: Int32Array.of(3) }),
    '9dc9bfbaa324ffd41be25b427bb8affdef175f2a82763f1592f45d6f89d81231',
  );
});

test('every field changes the key', () => {
  const parent = chunkKey({ ...first, tokens: Int32Array.of(9) });
  const changed = [
    first,
    { ...first, fingerprint: 'model2' },
    { ...first, salt: 'tenant2' },
    { ...first, parent },
    { ...first, tokens: Int32Array.of(1, 2, 70001) },
    { ...first, tokens: Int32Array.of(1, 2) },
  ];
  assert.equal(new Set(changed.map(chunkKey)).size, changed.length);
});

test('what ends one field cannot begin the next', () => {
  const moved = [
    { ...first, fingerprint: 'ab', salt: 'c' },
    { ...first, fingerprint: 'a', salt: 'bc' },
    { ...first, fingerprint: 'abc', salt: '' },
    { ...first, fingerprint: '', salt: 'abc' },
  ];
  assert.equal(new Set(moved.map(chunkKey)).size, moved.length);
});

test('only the tokens in view count, not the buffer behind them', () => {
  const wide = Int32Array.of(9, 1, 2, 70000, 9);
  assert.equal(chunkKey({ ...first, tokens: wide.subarray(1, 4) }), chunkKey(first));
});
