/** Where the rows of a chunk are. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kvLayout, rowsOffset } from '#storage';

const layout = kvLayout({ layers: 3, kvHeads: 2, headDim: 4, chunkTokens: 5, dtype: 'float32' });

test('sizes follow from the shape', () => {
  assert.deepEqual([layout.rowFloats, layout.chunkBytes], [8, 3 * 2 * 5 * 8 * 4]);
  assert.throws(() => kvLayout({ ...layout, layers: 0 }), { name: 'AssertionError' });
});

test('K and V rows of all layers fill a chunk without gap or overlap, K before V', () => {
  let next = 0;
  for (let layer = 0; layer < layout.layers; layer++) {
    for (const of of ['k', 'v'] as const) {
      assert.equal(rowsOffset(layout, { layer, of }), next);
      next += layout.chunkTokens * layout.rowFloats;
    }
  }
  assert.equal(next * Float32Array.BYTES_PER_ELEMENT, layout.chunkBytes);
});
