/** What KvCache brings from disk for a prompt that waits, and what it leaves there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createChecksum, HostStore, kvLayout, TieredStore } from '#storage';
import { BreakEven } from '../../src/cache/break-even.js';
import { KvCache, type Prefetch } from '../../src/cache/kv-cache.js';
import { PrefixCache } from '../../src/cache/prefix-cache.js';
import { Engine } from '../../src/engine/engine.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryLowerStore } from '../support/memory-lower-store.js';

const layout = kvLayout({ layers: 1, kvHeads: 1, headDim: 2, chunkTokens: 2, dtype: 'float32' });
const { chunkBytes } = layout;
const checksum = await createChecksum();
const prompt = (first: number) => Int32Array.of(first, 1, 2, 3, 4, 5, 6);

/** A cache with host memory for so many chunks, whose disk has the prompts 1 and 2, three whole chunks each. */
async function cacheOver(hostChunks: number, breakEven = new BreakEven('auto')) {
  const common = { chunkBytes, checksum, clock: new ManualClock() };
  let below: MemoryLowerStore | undefined;
  let store: TieredStore | undefined;
  const prefixes = new PrefixCache({
    layout,
    fingerprint: 'test',
    store: ({ evict, tierEvict }) => {
      store = new TieredStore({
        host: (onEvict) => new HostStore({ ...common, capacityBytes: hostChunks * chunkBytes, onEvict }),
        disk: (onEvict) => {
          below = new MemoryLowerStore({ ...common, capacityBytes: 20 * chunkBytes, onEvict });
          return below;
        },
        writePolicy: 'write-through',
        writeHits: 2,
        onEvict: evict,
        onTierEvict: tierEvict,
      });
      return store;
    },
  });
  for (const first of [1, 2]) {
    const lease = prefixes.acquire('', prompt(first), 'whole chunks');
    const chunks = prefixes.reserve('', prompt(first).subarray(0, 6), lease);
    const checksums = chunks.map(() => checksum(new Uint8Array(chunkBytes)));
    prefixes.commit('', prompt(first), { lease, chunks, checksums });
    prefixes.release(lease);
    await store!.flushed();
  }
  for (const key of store!.host.keys()) store!.host.remove(key);
  // Prefetching asks nothing of an engine.
  const engine: Engine = Object.create(Engine.prototype);
  const cache = new KvCache({ engine, layout, deviceBytes: 2 ** 20, prefixes, breakEven });
  return { cache, store: store!, below: below! };
}

function begun(prefetch: Prefetch | 'full' | undefined): Prefetch {
  assert(prefetch !== undefined && prefetch !== 'full');
  return prefetch;
}

test('what only the disk has is brought to host memory, and stays when the prefetch ends', async () => {
  const { cache, store } = await cacheOver(20);
  const prefetch = begun(cache.prefetch('', prompt(1)));
  assert.equal(prefetch.fromDisk.size, 3);
  assert.equal(cache.peek('', prompt(1)), 0);
  await prefetch.done;
  assert.equal(cache.peek('', prompt(1)), 6);
  cache.endPrefetch(prefetch);
  assert.equal(store.host.chunks, 3);
  assert.equal(cache.prefetch('', prompt(1)), undefined, 'nothing is left to bring');
  assert.equal(cache.audit().leases, 0);
});

test('where computing is faster the disk is left alone, and the tokens are counted', async () => {
  const breakEven = new BreakEven('auto');
  breakEven.prefilled(100, 1);
  breakEven.loaded(1, 1000);
  const { cache, store } = await cacheOver(20, breakEven);
  assert.equal(cache.prefetch('', prompt(1)), undefined);
  assert.equal(cache.reading().skippedTokens, 6);
  assert.equal(store.reading().promoted, 0);
  assert.equal(cache.audit().leases, 0);
});

test('prefetches take half of host memory: others wait, and one that needs more brings what fits', async () => {
  const { cache } = await cacheOver(7);
  const first = begun(cache.prefetch('', prompt(1)));
  assert.equal(cache.prefetch('', prompt(2)), 'full');
  await first.done;
  cache.endPrefetch(first);
  const second = begun(cache.prefetch('', prompt(2)));
  await second.done;
  cache.endPrefetch(second);
  const { cache: small } = await cacheOver(4);
  const part = begun(small.prefetch('', prompt(1)));
  assert.equal(part.fromDisk.size, 2);
  await part.done;
  assert.equal(small.peek('', prompt(1)), 4);
  small.endPrefetch(part);
});

test('a disk that fails ends the prefetch all the same, and what did not come is computed', async () => {
  const { cache, below } = await cacheOver(20);
  below.nextLoad = 'failed';
  const prefetch = begun(cache.prefetch('', prompt(1)));
  await prefetch.done;
  cache.endPrefetch(prefetch);
  assert.equal(cache.peek('', prompt(1)), 0);
  assert.equal(cache.prefetch('', prompt(1)), undefined, 'what failed is gone');
});
