import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { SelectorName } from '#blend';
import {
  type BlendProfile,
  PROFILE_FILE,
  PROFILE_VERSION,
  ProfiledQuality,
  readProfile,
  writeProfile,
} from '../../src/calibration/profile.js';

type Upper = readonly [selector: SelectorName, ratio: number, klUpper: number];

function profileOf(...uppers: readonly Upper[]): BlendProfile {
  const rows = uppers.map(([selector, ratio, klUpper]) => {
    return { selector, ratio, kl: klUpper / 2, klUpper, sameBest: 0.9, recovered: 0.8 };
  });
  return {
    version: PROFILE_VERSION,
    fingerprint: 'f'.repeat(64),
    data: 'a test',
    questions: 12,
    passages: 8,
    promptTokens: 1200,
    answerTokens: 24,
    reuseKl: 0.2,
    rows,
  };
}

async function temporaryDirectory(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-profile-'));
  t.after(() => rm(directory, { recursive: true }));
  return directory;
}

test('a stored profile is read back, and nothing else is left beside it', async (t) => {
  const directory = await temporaryDirectory(t);
  const profile = profileOf(['hybrid', 0.15, 0.02]);
  await writeProfile(directory, profile);
  assert.deepEqual(await readProfile(directory, profile.fingerprint), profile);
  assert.deepEqual(await readdir(directory), [PROFILE_FILE]);
});

test('a profile of another model, another version or no profile at all is none', async (t) => {
  const directory = await temporaryDirectory(t);
  const profile = profileOf(['hybrid', 0.15, 0.02]);
  assert.equal(await readProfile(directory, profile.fingerprint), undefined);
  await writeProfile(directory, profile);
  assert.equal(await readProfile(directory, 'e'.repeat(64)), undefined);
  for (const text of [
    JSON.stringify({ ...profile, version: PROFILE_VERSION + 1 }),
    JSON.stringify({ ...profile, rows: [{ selector: 'unheard-of' }] }),
    JSON.stringify(profile).slice(0, -1),
  ]) {
    await writeFile(join(directory, PROFILE_FILE), text);
    assert.equal(await readProfile(directory, profile.fingerprint), undefined, text);
  }
});

test('the least ratio is the one from which on the upper bound keeps the limit', () => {
  const profile = profileOf(
    ['hybrid', 0.3, 0.03],
    ['hybrid', 0.05, 0.04],
    ['hybrid', 0.15, 0.09],
    ['hybrid', 0.5, 0.01],
  );
  const leastRatio = (klMax: number) => new ProfiledQuality(profile, klMax).leastRatio('hybrid')?.ratio;
  assert.equal(leastRatio(0.1), 0.05);
  assert.equal(leastRatio(0.05), 0.3, 'though 0.05 alone would do');
  assert.equal(leastRatio(0.03), 0.3);
  assert.equal(leastRatio(0.02), 0.5);
  assert.equal(leastRatio(0.005), undefined);
});

test('without a selector the one that recomputes least is chosen, then the closest', () => {
  const profile = profileOf(
    ['heads', 0.15, 0.2],
    ['heads', 0.3, 0.03],
    ['hkvd', 0.15, 0.04],
    ['hkvd', 0.3, 0.03],
    ['question', 0.15, 0.02],
    ['question', 0.3, 0.01],
  );
  const quality = new ProfiledQuality(profile, 0.05);
  assert.deepEqual(quality.leastRatio(undefined), { selector: 'question', ratio: 0.15 });
  assert.deepEqual(quality.leastRatio('heads'), { selector: 'heads', ratio: 0.3 });
  assert.equal(quality.leastRatio('random'), undefined, 'it was not measured');
  assert.equal(new ProfiledQuality(profile, 0.001).leastRatio(undefined), undefined);
});
