/** What KvCache brings from the remote tier for a prompt that waits: within a deadline, once, and only if it is worth it. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { createChecksum, HostStore, kvLayout, TieredStore } from '#storage';
import { BreakEven } from '../../src/cache/break-even.js';
import { KvCache, type Prefetch } from '../../src/cache/kv-cache.js';
import { PrefixCache } from '../../src/cache/prefix-cache.js';
import { RemotePulls } from '../../src/cache/remote-pulls.js';
import { Engine } from '../../src/engine/engine.js';
import { RemoteStore } from '../../storage/remote/remote-store.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryRemote } from '../support/memory-remote.js';

const layout = kvLayout({ layers: 1, kvHeads: 1, headDim: 2, chunkTokens: 2, dtype: 'float32' });
const { chunkBytes } = layout;
const checksum = await createChecksum();
const now = () => performance.now();
const prompt = (first: number) => Int32Array.of(first, 1, 2, 3, 4, 5, 6);

/** A node with host memory for so many chunks. */
async function nodeOver(
  t: TestContext,
  remote: MemoryRemote,
  {
    hostChunks = 20,
    breakEven = new BreakEven('auto'),
    deadline = { msMin: 10_000, msMax: 10_000 },
  }: {
    hostChunks?: number;
    breakEven?: BreakEven;
    deadline?: { readonly msMin: number; readonly msMax: number };
  } = {},
) {
  const clock = new ManualClock();
  const server = new RemoteStore({
    connect: remote.connect,
    canMove: false,
    fingerprint: 'test',
    layout,
    codec: 'float32',
    checksum,
    clock,
    stopwatch: now,
    writePolicy: 'write-through',
    writeHits: 2,
    ttlMs: 60_000,
    namespaceBytes: 0,
    ownerOf: (namespace) => namespace,
    queueBytesMax: 1 << 20,
  });
  t.after(() => server.close());
  await server.attempted;
  let store: TieredStore | undefined;
  const prefixes = new PrefixCache({
    layout,
    fingerprint: 'test',
    store: ({ evict, tierEvict }) => {
      const capacityBytes = hostChunks * chunkBytes;
      store = new TieredStore({
        host: (onEvict) => new HostStore({ chunkBytes, checksum, clock, capacityBytes, onEvict }),
        remote: (host) => server.writeFrom(host),
        writePolicy: 'write-through',
        writeHits: 2,
        onEvict: evict,
        onTierEvict: tierEvict,
      });
      return store;
    },
  });
  const pulls = new RemotePulls({ store: server, prefixes, layout, breakEven, deadline, now });
  // Prefetching asks nothing of an engine.
  const engine: Engine = Object.create(Engine.prototype);
  const cache = new KvCache({
    engine,
    layout,
    deviceBytes: 2 ** 20,
    prefixes,
    breakEven: new BreakEven('off'),
    remote: pulls,
  });
  /** As if it had computed the prompt. */
  const compute = async (tokens: Int32Array): Promise<void> => {
    const lease = prefixes.acquire('', tokens, 'whole chunks');
    const chunks = prefixes.reserve('', tokens.subarray(0, 6), lease);
    const checksums = chunks.map(() => checksum(new Uint8Array(chunkBytes)));
    prefixes.commit('', tokens, { lease, chunks, checksums });
    prefixes.release(lease);
    await new Promise((resolve) => setTimeout(resolve, 20));
  };
  return { cache, store: store!, server, compute };
}

/** A server that has the prompts 1 and 2, three whole chunks each. */
async function filled(t: TestContext): Promise<MemoryRemote> {
  const remote = new MemoryRemote();
  const { compute } = await nodeOver(t, remote);
  for (const first of [1, 2]) await compute(prompt(first));
  while (remote.values.size < 6) await new Promise((resolve) => setTimeout(resolve, 5));
  remote.asked.length = 0;
  return remote;
}

function begun(prefetch: Prefetch | 'full' | undefined): Prefetch {
  assert(prefetch !== undefined && prefetch !== 'full');
  return prefetch;
}

test('what is there is asked for in one go, comes, and stays in host memory', async (t) => {
  const remote = await filled(t);
  const { cache, store } = await nodeOver(t, remote);
  const prefetch = begun(cache.prefetch('', prompt(1)));
  assert.equal(cache.peek('', prompt(1)), 0);
  await prefetch.done;
  assert.equal(prefetch.fromRemote.size, 3);
  assert.equal(cache.peek('', prompt(1)), 6);
  assert.equal(prefetch.bytes, 3 * chunkBytes);
  cache.endPrefetch(prefetch);
  assert.deepEqual(remote.asked.filter((command) => command === 'get').length, 3);
  assert.equal(store.host.chunks, 3);
  assert.equal(cache.prefetch('', prompt(1)), undefined, 'nothing is left to bring');
  assert.equal(cache.audit().leases, 0);
});

test('two prompts that begin alike fetch it once', async (t) => {
  const remote = await filled(t);
  const { cache } = await nodeOver(t, remote);
  const both = [prompt(1), Int32Array.of(...prompt(1), 7, 8, 9)].map((tokens) =>
    begun(cache.prefetch('', tokens)),
  );
  await Promise.all(both.map(({ done }) => done));
  assert.equal(remote.asked.filter((command) => command === 'get').length, 3);
  for (const prefetch of both) {
    assert.equal(prefetch.fromRemote.size, 3);
    cache.endPrefetch(prefetch);
  }
  assert.equal(cache.audit().leases, 0);
});

test('where computing is faster it is left alone, and the tokens are counted', async (t) => {
  const remote = await filled(t);
  const breakEven = new BreakEven('auto');
  breakEven.prefilled(100, 1);
  breakEven.loaded(1, 1000);
  const { cache, store } = await nodeOver(t, remote, { breakEven });
  const prefetch = begun(cache.prefetch('', prompt(1)));
  await prefetch.done;
  cache.endPrefetch(prefetch);
  assert.equal(cache.reading().remote!.skippedTokens, 6);
  assert.deepEqual([store.host.chunks, remote.asked.includes('get')], [0, false]);
});

test('the deadline is the time to compute what is missing, between its limits; and then nobody is asked', async (t) => {
  const cases = [
    { msPerToken: 20, deadline: { msMin: 1, msMax: 60_000 }, atMs: 120 },
    { msPerToken: 0.01, deadline: { msMin: 100, msMax: 60_000 }, atMs: 100 },
    { msPerToken: 10_000, deadline: { msMin: 1, msMax: 110 }, atMs: 110 },
  ];
  for (const { msPerToken, deadline, atMs } of cases) {
    const remote = await filled(t);
    const breakEven = new BreakEven('auto');
    breakEven.prefilled(100, 100 * msPerToken);
    const { cache, server } = await nodeOver(t, remote, { breakEven, deadline });
    remote.fails.set('present', 'never');
    const startedAt = performance.now();
    const prefetch = begun(cache.prefetch('', prompt(1)));
    await prefetch.done;
    const waitedMs = performance.now() - startedAt;
    assert(waitedMs >= atMs - 2 && waitedMs < 30_000, `${waitedMs} ms`);
    cache.endPrefetch(prefetch);
    assert.equal(server.isUsable, false);
    assert.equal(cache.prefetch('', prompt(1)), undefined);
    assert.equal(cache.audit().leases, 0);
    await server.close();
  }
});

test('a prefetch that ends before it is done leaves no lease, no slot and no room taken', async (t) => {
  const remote = await filled(t);
  const { cache, store } = await nodeOver(t, remote, { hostChunks: 7 });
  const early = begun(cache.prefetch('', prompt(1)));
  cache.endPrefetch(early);
  await early.done;
  assert.equal(cache.audit().leases, 0);
  assert.equal(store.host.freeSlots, 7);
  const prefetch = begun(cache.prefetch('', prompt(2)));
  await prefetch.done;
  assert.equal(prefetch.fromRemote.size, 3);
  cache.endPrefetch(prefetch);
  store.host.audit();
});

test('no more is brought than prefetches may take of host memory', async (t) => {
  const remote = await filled(t);
  const { cache } = await nodeOver(t, remote, { hostChunks: 4 });
  const prefetch = begun(cache.prefetch('', prompt(1)));
  await prefetch.done;
  assert.equal(prefetch.fromRemote.size, 2);
  assert.equal(cache.peek('', prompt(1)), 4);
  cache.endPrefetch(prefetch);
});
