import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SELECTORS } from '#blend';
import { BlendSession } from '../../src/calibration/blend-session.js';
import { measurePrompt, recoveredShare } from '../../src/calibration/measure.js';
import { loadTinyModel } from '../support/golden.js';
import { importForTest } from '../support/model-session.js';

test('recomputing all predicts what full prefill does, recomputing none what plain reuse does', async (t) => {
  const { path } = loadTinyModel('gguf-llama-f16');
  const directory = await importForTest(t, { path, weights: 'float32', kvType: 'float32' });
  const session = await BlendSession.open({ directory, threads: 1 });
  const tokens = Int32Array.from(
    { length: 41 },
    (_, i) => (i * i * 7 + i * 13 + 3) % session.manifest.spec.vocab,
  );
  const segments = [];
  for (const [start, end] of [
    [0, 9],
    [9, 20],
    [20, 33],
  ] as const) {
    const run = session.createRun(end - start);
    await session.prefill(run, tokens.slice(start, end));
    segments.push({ start, end, storedStart: 0, run });
  }
  const selectors = { all: SELECTORS.all(), none: SELECTORS.none() };
  const options = { selectors, ratios: [0.5], answerTokens: 5 };
  const [all, none] = await measurePrompt(session, { tokens, segments }, options);
  assert.deepEqual([all!.selector, none!.selector], ['all', 'none']);
  assert(none!.reuseKl > 1e-6, `${none!.reuseKl}: reuse must be told apart from full prefill`);
  assert.equal(none!.kl, none!.reuseKl);
  assert.equal(all!.sameBest, 1);
  assert(recoveredShare([all!]) > 0.999, `${all!.kl} of ${all!.reuseKl}`);
  assert.equal(recoveredShare([none!]), 0);
});
