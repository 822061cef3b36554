import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chunkKey } from '#storage';
import { ChunkLives } from '../../src/cache/chunk-lives.js';
import { observed } from '../../src/histogram.js';
import { ask, type TestBackend, TINY_CHUNK_BYTES, testBackend } from '../support/backend.js';
import { ManualClock } from '../support/manual-clock.js';

const keyOf = (token: number) =>
  chunkKey({ fingerprint: 'f', salt: '', parent: undefined, tokens: Int32Array.of(token) });

test('a chunk that is computed again is regretted once, by the tier that had it last', () => {
  const clock = new ManualClock(1000);
  const lives = new ChunkLives({ clock });
  lives.left('disk', { createdAtMs: 0, hits: 2 });
  lives.gone(keyOf(1), 'alice', 'disk');
  clock.nowMs += 30_000;
  assert.equal(lives.computed(keyOf(2)), undefined);
  assert.equal(lives.computed(keyOf(1)), 'disk');
  assert.equal(lives.computed(keyOf(1)), undefined);
  const { host, disk } = lives.reading();
  assert.deepEqual([observed(host.regretS), disk.regretS.sum], [0, 30]);
  assert.deepEqual([disk.ageS.sum, disk.uses.sum], [1, 2]);
});

test('the keys that are remembered are bounded, and those of a deleted namespace are forgotten', () => {
  const lives = new ChunkLives({ clock: new ManualClock(0), ghostsMax: 2 });
  for (const token of [1, 2, 3]) lives.gone(keyOf(token), token === 3 ? 'bob' : 'alice', 'host');
  assert.equal(lives.computed(keyOf(1)), undefined);
  lives.forget('alice');
  assert.equal(lives.computed(keyOf(2)), undefined);
  assert.equal(lives.computed(keyOf(3)), 'host');
});

/** Chunks of 16 tokens, of which the model has one a character. */
const PROMPT = 'x'.repeat(160);

async function regretOf(backend: TestBackend, prompt: string): Promise<number> {
  const before = backend.cache.reading().prefixes!.lives!.host.regretS;
  await ask(backend, { prompt, maxTokens: 1 });
  backend.cache.dropWarm();
  return observed(backend.cache.reading().prefixes!.lives!.host.regretS) - observed(before);
}

test('what host memory had to evict is regretted when a prompt computes it again, and nothing else', async (t) => {
  const backend = await testBackend(t, { hostBytes: 24 * TINY_CHUNK_BYTES, segmentShare: 0 });
  assert.equal(await regretOf(backend, PROMPT), 0, 'it was never there');
  assert.equal(await regretOf(backend, PROMPT), 0, 'it is still there');
  for (const letter of 'abc') assert.equal(await regretOf(backend, letter.repeat(160)), 0);
  const { evictions, prefixes } = backend.cache.reading();
  const evicted = evictions.find(({ tier }) => tier === 'host')!.count;
  assert.equal(observed(prefixes!.lives!.host.ageS), evicted);
  const regretted = await regretOf(backend, PROMPT);
  assert(regretted > 0 && regretted <= 10, String(regretted));
});

test('what was deleted is not regretted', async (t) => {
  const backend = await testBackend(t);
  await regretOf(backend, PROMPT);
  backend.controls.desk.clear(['']);
  assert.equal(await regretOf(backend, PROMPT), 0);
});
