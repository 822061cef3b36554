/** What is kept for longer or shorter, of sequences that begin with the same chunk. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createChecksum, HostStore, kvLayout, TieredStore } from '#storage';
import { BreakEven } from '../../src/cache/break-even.js';
import { KvCache } from '../../src/cache/kv-cache.js';
import { PrefixCache } from '../../src/cache/prefix-cache.js';
import { Engine } from '../../src/engine/engine.js';
import { ManualClock } from '../support/manual-clock.js';

const layout = kvLayout({ layers: 1, kvHeads: 1, headDim: 2, chunkTokens: 2, dtype: 'float32' });
const { chunkBytes } = layout;
const checksum = await createChecksum();

/** Two chunks each, of which the first is the same. */
const ONE = Int32Array.of(9, 9, 1, 1);
const OTHER = Int32Array.of(9, 9, 2, 2);
const SHARED = 2;

function cacheOf(chunks: number) {
  const clock = new ManualClock();
  const prefixes = new PrefixCache({
    layout,
    fingerprint: 'test',
    store: ({ evict, tierEvict }) =>
      new TieredStore({
        host: (onEvict) =>
          new HostStore({
            chunkBytes,
            capacityBytes: chunks * chunkBytes,
            checksum,
            clock,
            policy: 'lru',
            onEvict,
          }),
        writePolicy: 'write-through',
        writeHits: 2,
        onEvict: evict,
        onTierEvict: tierEvict,
      }),
  });
  const seal = (tokens: Int32Array) => {
    const lease = prefixes.acquire('', tokens, 'whole chunks');
    const reserved = prefixes.reserve('', tokens, lease);
    const checksums = reserved.map(() => checksum(new Uint8Array(chunkBytes)));
    prefixes.commit('', tokens, { lease, chunks: reserved, checksums });
    prefixes.release(lease);
  };
  // Keeping asks nothing of an engine.
  const engine: Engine = Object.create(Engine.prototype);
  const cache = new KvCache({
    engine,
    layout,
    deviceBytes: 2 ** 20,
    prefixes,
    breakEven: new BreakEven('off'),
  });
  return { cache, clock, seal, tokensIn: (tokens: Int32Array) => cache.peekTiers('', tokens).host };
}

test('a sequence that is kept for a while does not take with it what it shares', () => {
  const { cache, clock, seal, tokensIn } = cacheOf(8);
  for (const tokens of [ONE, OTHER]) seal(tokens);
  cache.keep('', ONE, { ttlMs: 1000, isPinned: false, sharedTokens: SHARED });
  clock.nowMs += 1000;
  assert.equal(tokensIn(ONE), SHARED);
  assert.equal(tokensIn(OTHER), OTHER.length);
});

test('a pin holds also what a sequence stands behind, whatever becomes of others', () => {
  const { cache, seal, tokensIn } = cacheOf(4);
  for (const tokens of [ONE, OTHER]) seal(tokens);
  cache.keep('', ONE, { ttlMs: undefined, isPinned: true, sharedTokens: SHARED });
  cache.keep('', OTHER, { ttlMs: undefined, isPinned: false, sharedTokens: SHARED });
  for (let i = 0; i < 6; i++) seal(Int32Array.of(3, i, 4, i));
  assert.equal(tokensIn(ONE), ONE.length);
  assert.equal(tokensIn(OTHER), SHARED);
});
