import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeCases, prefillCases, promptTokens, ttftCases } from '../../bench/cases.js';
import { type BenchCase, runCases } from '../../bench/harness.js';
import type { CacheState, Subject } from '../../bench/subject.js';

/** A subject that takes `msPerToken` for every token it computes and writes its calls to `log`. */
function fakeSubject(
  name: string,
  msPerToken: number,
  tiers: readonly CacheState[],
  log: string[] = [],
): Subject {
  return {
    name,
    supports: (from) => tiers.includes(from),
    prefill: async (tokens) => {
      log.push(`${name} prefill ${tokens.length}`);
      return tokens.length * msPerToken;
    },
    decode: async (_, steps) => Array.from({ length: steps }, () => msPerToken),
    ttft: async (cached, fresh, from) => (fresh.length + (from === 'cold' ? cached.length : 0)) * msPerToken,
    close: async () => {},
  };
}

const quiet = { pause: async () => {} };

test('subjects take turns, and the warm-up round is not counted', async () => {
  const log: string[] = [];
  let calls = 0;
  const subjects = [fakeSubject('ours', 1, [], log), fakeSubject('peer', 1, [], log)];
  const warming: BenchCase = {
    name: 'x',
    ratio: 'speed',
    applies: () => true,
    measure: async (subject) => [(await subject.prefill([1])) + (calls++ < 2 ? 1000 : 0)],
  };
  const [row] = await runCases([warming], subjects, { ...quiet, rounds: 2 });
  assert.deepEqual(log, Array.from({ length: 3 }, () => ['ours prefill 1', 'peer prefill 1']).flat());
  assert.deepEqual(row!.ms, { ours: { median: 1, min: 1, max: 1 }, peer: { median: 1, min: 1, max: 1 } });
});

test('a pause separates any two measurements', async () => {
  const log: string[] = [];
  const subjects = [fakeSubject('ours', 1, [], log), fakeSubject('peer', 1, [], log)];
  const pause = async (): Promise<void> => void log.push('pause');
  await runCases(prefillCases().slice(0, 1), subjects, { rounds: 1, pause });
  assert.deepEqual(
    log.map((entry) => entry === 'pause'),
    [true, false, true, false, true, false, true, false],
  );
});

test('a speed ratio above one means that ours is faster', async () => {
  const subjects = [fakeSubject('ours', 1, []), fakeSubject('peer', 3, [])];
  const rows = await runCases([...prefillCases(), ...decodeCases(4)], subjects, { ...quiet, rounds: 1 });
  assert.deepEqual(
    rows.map(({ name, ratio }) => [name, ratio?.median]),
    [
      ['prefill 512', 3],
      ['prefill 2048', 3],
      ['decode at 16', 3],
      ['decode at 2048', 3],
    ],
  );
});

test('a time ratio below one means that ours is faster, and shares are of our own cold time', async () => {
  const subjects = [
    fakeSubject('ours', 1, ['cold', 'device', 'host']),
    fakeSubject('peer', 2, ['cold', 'device']),
  ];
  const [cold, device, host] = await runCases(ttftCases(), subjects, { ...quiet, rounds: 3 });
  assert.equal(cold!.ratio?.median, 0.5);
  assert.deepEqual(device!.share, { of: 'TTFT cold', value: 32 / 2080, atMost: 0.06 });
  assert.equal(host!.ratio, undefined);
  assert.deepEqual(Object.keys(host!.ms), ['ours']);
});

test('from disk, ours is compared with what the peer restores, and is a share of our own cold time', async () => {
  const subjects = [fakeSubject('ours', 1, ['cold', 'disk']), fakeSubject('peer', 3, ['cold', 'disk'])];
  const rows = await runCases(ttftCases(), subjects, { ...quiet, rounds: 1 });
  assert.deepEqual(
    rows.map(({ name }) => name),
    ['TTFT cold', 'TTFT disk'],
  );
  assert.equal(rows[1]!.ratio?.median, 1 / 3);
  assert.deepEqual(rows[1]!.target, { atMost: 0.5 });
  assert.deepEqual(rows[1]!.share, { of: 'TTFT cold', value: 32 / 2080, atMost: 0.12 });
});

test('a peer without ours has times but no ratio', async () => {
  const [row] = await runCases(prefillCases(), [fakeSubject('peer', 2, [])], { ...quiet, rounds: 1 });
  assert.deepEqual(row!.ms, { peer: { median: 1024, min: 1024, max: 1024 } });
  assert.equal(row!.ratio, undefined);
});

test('prompts are the same for the same seed and share no prefix for another', () => {
  assert.deepEqual(promptTokens(64, 7), promptTokens(64, 7));
  const firsts = new Set(Array.from({ length: 300 }, (_, seed) => promptTokens(1, seed)[0]));
  assert.ok(firsts.size > 290);
  assert.ok(
    promptTokens(5000, 1).every((token) => Number.isInteger(token) && token >= 100 && token < 30_000),
  );
});
