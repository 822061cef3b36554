/** Namespaces of passages, and what class of chunks they make. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { namespaceOf, saltedNamespace } from '../../src/api/namespace.js';
import { isSegmentNamespace, segmentNamespace, segmentShares } from '../../src/cache/segment-namespace.js';

const tenants = [namespaceOf(''), namespaceOf('one'), saltedNamespace(namespaceOf('one'), 'salt')];

test('no tenant has the namespace of passages of any tenant', () => {
  const passages = tenants.map(segmentNamespace);
  assert.equal(new Set([...tenants, ...passages]).size, 6);
  assert(passages.every(isSegmentNamespace) && !tenants.some(isSegmentNamespace));
  assert.throws(() => segmentNamespace(passages[0]!), { name: 'AssertionError' });
});

test('passages are of one class and prompts of the other, and their shares are the whole', () => {
  const { of, classOf } = segmentShares(0.3);
  assert.deepEqual(of, { prefix: 0.7, segment: 0.3 });
  for (const tenant of tenants) {
    assert.equal(classOf(tenant), 'prefix');
    assert.equal(classOf(segmentNamespace(tenant)), 'segment');
  }
});
