/** A few seconds of the soak that `npm run bench -- soak` runs for minutes, with the same checks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { soak } from '../../bench/soak.js';
import { judge, SHORT_SOAK_TOLERANCE } from '../../bench/soak-verdict.js';

const SECONDS = 12;
/** Room for 220 chunks beside an empty directory, so that a slow machine fills it too. */
const DISK_BYTES = 10 * 1024 ** 2;

test('under traffic far beyond the budgets, none is exceeded, no lease leaks and no answer is wrong', {
  timeout: 120_000,
}, async (t) => {
  const verdicts = judge(
    await soak({ seconds: SECONDS, seed: 2, diskBytes: DISK_BYTES }),
    SHORT_SOAK_TOLERANCE,
  );
  for (const { what, detail } of verdicts) t.diagnostic(`${what}: ${detail}`);
  assert.deepEqual(
    verdicts.filter(({ holds }) => !holds),
    [],
  );
});
