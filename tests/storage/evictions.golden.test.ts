/**
 * Which chunks each policy evicts from an undivided tier, in which order, as a digest: that of the release before tiers
 * were divided among classes. A change here is a change of what a cache holds: measure it before taking it.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { type ChunkKey, chunkKey, POLICY_NAMES, type PolicyName } from '#storage';
import { Residents } from '../../storage/residents.js';
import { ManualClock } from '../support/manual-clock.js';

/** Evictions, and the first digits of SHA-256 over the names of what was evicted. */
const EVICTED: Readonly<Record<PolicyName, readonly [number, string]>> = {
  adaptive: [11530, '927bedddc67ceadd'],
  lru: [13056, '4a0fe822e40a41f8'],
  lfu: [12127, '4fd3ef14e528967a'],
  slru: [12129, '229ea2de4df32e67'],
  's3-fifo': [11920, '26d02df22e65b76a'],
  gdsf: [12979, 'd0d49de42465e5f1'],
};

/** Conversations that share beginnings, some of low priority; most requests are of a loop. */
function* requests(): Generator<{ readonly conversation: number; readonly turns: number }> {
  let state = 1;
  const next = (below: number): number => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
  for (let i = 0; i < 12_000; i++) {
    if (i % 4 === 0) yield { conversation: next(next(3) === 0 ? 12 : 150), turns: 1 + next(4) };
    else yield { conversation: 1000 + (i % 150), turns: 1 };
  }
}

function evicted(policy: PolicyName): [number, string] {
  const digest = createHash('sha256');
  let count = 0;
  const residents = new Residents<string>({
    capacityBytes: 90,
    policy,
    clock: new ManualClock(0),
    onLeave: ({ data }) => {
      count++;
      digest.update(`${data} `);
    },
    onFree: () => {},
  });
  for (const { conversation, turns } of requests()) {
    const path = [];
    let parent: ChunkKey | undefined;
    for (let turn = 0; turn < turns; turn++) {
      const first = conversation < 1000 ? conversation % 5 : conversation;
      const tokens = Int32Array.of(turn === 0 ? first : conversation);
      const key = chunkKey({ fingerprint: 'test', salt: '', parent, tokens });
      const retention = { priority: conversation % 7 === 0 ? 49 : 50 };
      const data = `${conversation}.${turn}`;
      path.push({ key, parent, namespace: '', bytes: 1 + (turn % 2), data, retention });
      parent = key;
    }
    const present = path.filter(({ key }) => residents.get(key) !== undefined).map(({ key }) => key);
    residents.touch(present.toReversed());
    for (const key of present) residents.lease(key);
    for (const chunk of path) {
      if (residents.get(chunk.key) !== undefined) continue;
      if (residents.add(chunk) === undefined) break;
      residents.commit(chunk.key);
    }
    for (const key of present) residents.release(key);
  }
  return [count, digest.digest('hex').slice(0, 16)];
}

for (const policy of POLICY_NAMES) {
  test(`${policy}: what is evicted from an undivided tier is what always was`, () => {
    assert.deepEqual(evicted(policy), EVICTED[policy]);
  });
}
