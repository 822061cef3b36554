import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BUILT_IN_PROFILES } from '../../src/calibration/built-in-profiles.js';
import { readProfile } from '../../src/calibration/profile.js';
import { readManifest } from '../../src/model/manifest.js';
import { defaultModel } from '../support/default-model.js';

test('the default model, imported with the default options, has a profile before anyone calibrates', async () => {
  const directory = await defaultModel();
  const { fingerprint } = await readManifest(directory);
  assert.deepEqual(await readProfile(directory, fingerprint), BUILT_IN_PROFILES[0]);
});
