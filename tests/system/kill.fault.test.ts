/**
 * A real `kill -9`, again and again: of a server under load and of one that is starting. What it serves afterwards must
 * be what a server without a cache answers, and its catalogue readable.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { median } from '../../bench/statistics.js';
import { KillTrial } from './kill-trial.js';

const SEED = 20_261_125;
const KILLS = 30;
/** Generous: other tests may run beside. What is promised of a quiet machine is measured by the benchmarks. */
const READY_WITHIN_MS = 15_000;

test(`after ${KILLS} kills at random moments, no answer is wrong and the catalogue is readable`, {
  timeout: 300_000,
}, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-kill-'));
  const trial = new KillTrial(directory, SEED);
  t.after(async () => {
    await trial.end();
    await rm(directory, { recursive: true, force: true });
  });
  await trial.prepare();
  while (trial.tally.kills < KILLS) await trial.kill();
  await trial.survive();
  const { answers, wrong } = await trial.compare();

  const { kills, killsWhileStarting, diskTokens, readyMs, faults } = trial.tally;
  t.diagnostic(`${kills} kills, ${killsWhileStarting} of them while starting`);
  t.diagnostic(`${answers} answers compared, ${wrong} wrong; ${diskTokens} prompt tokens from disk`);
  t.diagnostic(`ready after ${Math.round(median(readyMs))} ms; ${JSON.stringify(faults)}`);
  assert(answers > kills);
  assert.equal(wrong, 0);
  assert(diskTokens > 0, 'what was written before a kill is used after it');
  assert(Math.max(...readyMs) < READY_WITHIN_MS);
  assert.equal(faults.catalogues_rebuilt, 0);
  assert.equal(faults.reads_corrupt, 0);
});
