/** Whether a request is blended, by what it asks for and what was measured. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_SELECTOR, type SelectorName } from '#blend';
import { BlendPolicy, type BlendQuality, DEFAULT_RATIO } from '../../src/serving/blend-policy.js';
import { type CacheControl, DEFAULT_CACHE } from '../../src/serving/completion.js';
import { assertRefused } from '../support/refused.js';

/** A model on which `heads` needs 0.3, the others 0.1, and `random` is never good enough. */
const MEASURED: BlendQuality = {
  leastRatio: (selector: SelectorName = 'question') => {
    if (selector === 'random') return undefined;
    return { selector, ratio: selector === 'heads' ? 0.3 : 0.1 };
  },
};
const HOPELESS: BlendQuality = { leastRatio: () => undefined };

const asked = (cache: Partial<CacheControl>): CacheControl => ({ ...DEFAULT_CACHE, ...cache });
const blend = (cache: Partial<CacheControl>) => asked({ mode: 'blend', ...cache });
const policy = (quality: BlendQuality | undefined) => new BlendPolicy({ quality, unmovable: undefined });

test('auto blends by what was measured, and by no less than that', () => {
  const measured = policy(MEASURED);
  assert.deepEqual(measured.decide(asked({})), { selector: 'question', ratio: 0.1 });
  assert.deepEqual(measured.decide(asked({ selector: 'heads' })), { selector: 'heads', ratio: 0.3 });
  assert.deepEqual(measured.decide(asked({ recomputeRatio: 0.5 })), { selector: 'question', ratio: 0.5 });
  assert.deepEqual(measured.decide(asked({ recomputeRatio: 0.05 })), { refused: 'quality_bound' });
  assert.deepEqual(measured.decide(asked({ selector: 'random' })), { refused: 'quality_bound' });
  assert.deepEqual(policy(HOPELESS).decide(asked({})), { refused: 'quality_bound' });
});

test('auto computes exactly where nothing was measured', () => {
  assert.deepEqual(policy(undefined).decide(asked({})), { refused: 'not_profiled' });
});

test('blend is the word of the request, and what it leaves open is measured or the default', () => {
  assert.deepEqual(policy(MEASURED).decide(blend({})), { selector: 'question', ratio: 0.1 });
  assert.deepEqual(policy(MEASURED).decide(blend({ recomputeRatio: 0 })), { selector: 'question', ratio: 0 });
  for (const quality of [undefined, HOPELESS]) {
    assert.deepEqual(policy(quality).decide(blend({})), { selector: DEFAULT_SELECTOR, ratio: DEFAULT_RATIO });
  }
  assert.deepEqual(policy(undefined).decide(blend({ selector: 'heads', recomputeRatio: 0.4 })), {
    selector: 'heads',
    ratio: 0.4,
  });
});

test('exact and off never blend', () => {
  for (const mode of ['exact', 'off'] as const) {
    assert.deepEqual(policy(MEASURED).decide(asked({ mode })), { refused: 'exact' });
  }
});

test('a model whose keys can not be moved is computed exactly, and says so to one who insists', async () => {
  const stuck = new BlendPolicy({ quality: MEASURED, unmovable: 'dynamic_ntk' });
  assert.deepEqual(stuck.decide(asked({})), { refused: 'not_movable' });
  await assertRefused('invalid_value', /dynamic_ntk/, async () => stuck.decide(asked({ mode: 'blend' })));
});
