import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kvLayout } from '#storage';

const SHAPE = { layers: 3, kvHeads: 2, headDim: 4, chunkTokens: 5 } as const;

test('a chunk is as long as the K and V rows of its tokens over all layers', () => {
  const half = kvLayout({ ...SHAPE, dtype: 'float16' });
  assert.deepEqual([half.rowBytes, half.sections, half.tokenBytes, half.chunkBytes], [16, 6, 96, 480]);
  assert.equal(kvLayout({ ...SHAPE, dtype: 'float32' }).chunkBytes, 960);
});

test('a shape of anything but positive integers is refused', () => {
  for (const bad of [0, -1, 1.5, Number.NaN]) {
    assert.throws(() => kvLayout({ ...SHAPE, layers: bad, dtype: 'float16' }));
  }
});
