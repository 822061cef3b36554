/** The remote tier over a server in memory: what is believed of its values, and what its failures cost. */
import assert from 'node:assert/strict';
import { suite, type TestContext, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { type ChunkIdentity, type ChunkKey, chunkKey, createChecksum, HostStore, kvLayout } from '#storage';
import { until } from '../../../bench/redis-server.js';
import { ChunkCipher } from '../../../storage/disk/chunk-cipher.js';
import { RemoteStore, type RemoteStoreOptions } from '../../../storage/remote/remote-store.js';
import { ManualClock } from '../../support/manual-clock.js';
import { MemoryRemote } from '../../support/memory-remote.js';

const layout = kvLayout({ layers: 1, kvHeads: 1, headDim: 4, chunkTokens: 4, dtype: 'float32' });
const { chunkBytes } = layout;
const checksum = await createChecksum();
const FINGERPRINT = 'model';

/** A path of chunks. */
function chunksOf(count: number, namespace = '', first = 0): ChunkIdentity[] {
  const chunks: ChunkIdentity[] = [];
  for (let i = 0; i < count; i++) {
    const parent = chunks.at(-1)?.key;
    const tokens = Int32Array.of(first + i, 1, 2, 3);
    chunks.push({
      key: chunkKey({ fingerprint: FINGERPRINT, salt: namespace, parent, tokens }),
      parent,
      namespace,
      tokens,
    });
  }
  return chunks;
}

const bytesOf = (chunk: ChunkIdentity) => new Uint8Array(chunkBytes).fill(1 + chunk.tokens[0]!);

async function world(t: TestContext, options: Partial<RemoteStoreOptions> = {}, remote = new MemoryRemote()) {
  const clock = new ManualClock();
  const states: string[] = [];
  const store = new RemoteStore({
    connect: remote.connect,
    canMove: false,
    fingerprint: FINGERPRINT,
    layout,
    codec: 'float32',
    checksum,
    clock,
    stopwatch: () => performance.now(),
    writePolicy: 'write-through',
    writeHits: 2,
    ttlMs: 60_000,
    namespaceBytes: 0,
    ownerOf: (namespace) => namespace,
    queueBytesMax: 1 << 20,
    onState: (state, reason) => states.push(`${state} ${reason ?? ''}`.trim()),
    ...options,
  });
  const host = new HostStore({ chunkBytes, capacityBytes: 64 * chunkBytes, checksum, clock });
  const writer = store.writeFrom(host);
  t.after(() => store.close());
  await store.attempted;
  const write = async (chunks: readonly ChunkIdentity[]): Promise<void> => {
    for (const chunk of chunks) {
      await host.write(chunk, bytesOf(chunk));
      writer.sealed(chunk.key);
    }
    await writer.flushed();
  };
  const load = async (chunks: readonly ChunkIdentity[], ms = 10_000) => {
    const wanted = chunks.map((chunk) => ({ chunk, into: new Uint8Array(chunkBytes) }));
    const loaded = await store.load(wanted, performance.now() + ms);
    return { loaded, wanted };
  };
  const present = (keys: readonly ChunkKey[], ms = 10_000) => store.present(keys, performance.now() + ms);
  return { remote, store, host, writer, clock, states, write, load, present };
}

suite('what is read', () => {
  test('is what was written, from the first chunk to the first that is missing', async (t) => {
    const { remote, store, write, load, present } = await world(t);
    const chunks = chunksOf(5);
    await write(chunks);
    assert.equal(remote.values.size, 5);
    const { loaded, wanted } = await load(chunks);
    assert.equal(loaded.length, 5);
    for (const [i, { into }] of wanted.entries()) assert.deepEqual(into, bytesOf(chunks[i]!));
    remote.values.delete([...remote.values.keys()][3]!);
    assert.equal(await present(chunks.map(({ key }) => key)), 3);
    assert.equal((await load(chunks)).loaded.length, 3);
    assert.equal(store.reading().reads.missing, 1);
  });

  for (const cipher of [undefined, new ChunkCipher(new Uint8Array(32).fill(7), (n) => new Uint8Array(n))]) {
    test(`with any bit flipped, or cut short anywhere, is a miss and goes${cipher ? ', encrypted too' : ''}`, async (t) => {
      const { remote, store, write, load, writer } = await world(t, { cipher });
      const [chunk] = chunksOf(1);
      await write([chunk!]);
      const [name, sound] = [...remote.values][0]!;
      const damaged: Buffer[] = [];
      for (let at = 0; at < sound.length; at++) {
        const flipped = Buffer.from(sound);
        flipped[at]! ^= 1 << (at % 8);
        damaged.push(flipped, sound.subarray(0, at));
      }
      damaged.push(Buffer.concat([sound, Buffer.of(0)]));
      for (const [i, value] of damaged.entries()) {
        remote.values.set(name, value);
        assert.equal((await load([chunk!])).loaded.length, 0, String(i));
        await writer.flushed();
        assert.equal(remote.values.size, 0, 'it goes');
      }
      assert.equal(store.reading().reads.corrupt, damaged.length);
      remote.values.set(name, sound);
      assert.equal((await load([chunk!])).loaded.length, 1, 'this test can tell');
    });
  }

  test('is never another chunk: of another place, namespace, model or key', async (t) => {
    const here = await world(t);
    const [first, second] = chunksOf(2);
    const [foreign] = chunksOf(1, 'other');
    await here.write([first!, second!, foreign!]);
    const names = [...here.remote.values.keys()];
    const values = [...here.remote.values.values()];
    const others = [
      await world(t, { fingerprint: 'another model' }),
      await world(t, { cipher: new ChunkCipher(new Uint8Array(32), (n) => new Uint8Array(n)) }),
    ];
    for (const other of others) {
      await other.write([first!]);
      assert(!names.includes([...other.remote.values.keys()][0]!));
      values.push([...other.remote.values.values()][0]!);
    }
    for (const [i, value] of values.entries()) {
      for (const [at, chunk] of [first!, second!, foreign!].entries()) {
        here.remote.values.set(names[at]!, value);
        assert.equal((await here.load([chunk])).loaded.length, i === at ? 1 : 0, `${i} as ${at}`);
      }
    }
  });
});

suite('what is written', () => {
  test('goes on with what is offered while the last batch is on its way', async (t) => {
    const [first, second] = chunksOf(2);
    const { remote, write, writer, host } = await world(t, {
      onStored: ({ key }) => {
        if (key === first!.key) writer.sealed(second!.key);
      },
    });
    await host.write(first!, bytesOf(first!));
    await host.write(second!, bytesOf(second!));
    await write([first!]);
    assert.equal(remote.values.size, 2);
  });

  test('and removed while it is, is not there afterwards', async (t) => {
    const chunks = chunksOf(3);
    const { remote, write, writer } = await world(t, {
      onStored: ({ key }) => writer.remove(key),
    });
    await write(chunks);
    assert.equal(remote.values.size, 0);
    const { write: rewrite, remote: again } = await world(t);
    await rewrite(chunks);
    assert.equal(again.values.size, 3, 'this test can tell');
  });
});

suite('a server that fails', () => {
  test('is not asked again until a probe has passed, and what was under way ends at once', async (t) => {
    const { remote, store, write, load, present, states } = await world(t);
    const chunks = chunksOf(3);
    await write(chunks);
    remote.fails.set('get', 'never');
    const [slow, quick] = await Promise.all([load(chunks, 200), load(chunks, 60_000)]);
    assert.deepEqual([slow.loaded.length, quick.loaded.length], [0, 0]);
    assert.equal(store.isUsable, false);
    const asked = remote.asked.length;
    assert.equal(await present(chunks.map(({ key }) => key)), 0);
    assert.equal((await load(chunks)).loaded.length, 0);
    assert.equal(remote.asked.slice(asked).filter((command) => command !== 'present').length, 0);
    remote.fails.clear();
    await until(() => store.isUsable, 'the probe passes');
    assert.equal((await load(chunks)).loaded.length, 3);
    assert.deepEqual(states.slice(0, 3), ['half-open not connected yet', 'closed', 'open timeout']);
    assert.equal(states.at(-1), 'closed');
  });

  test('with all kinds of errors gives misses, and never throws', async (t) => {
    const commands = ['present', 'get', 'set', 'unlink', 'numbers', 'add', 'connect'] as const;
    const kinds = ['read_only', 'full', 'denied', 'unready', 'refused', 'disconnected'] as const;
    for (const command of commands) {
      for (const kind of kinds) {
        const { remote, write, load, present, store } = await world(t, { namespaceBytes: 1 << 20 });
        const chunks = chunksOf(2);
        await write(chunks);
        remote.fails.set(command, kind);
        if (command === 'connect') remote.lose();
        const found = await present(chunks.map(({ key }) => key));
        const { loaded } = await load(chunks);
        const canRead = !['present', 'get', 'connect'].includes(command);
        assert.deepEqual([found > 0, loaded.length], [canRead || command === 'get', canRead ? 2 : 0]);
        void write(chunksOf(2, '', 100));
        await nextTurn();
        remote.fails.clear();
        await store.close();
      }
    }
  });

  test('that refuses writes is read all the same', async (t) => {
    const { remote, store, write, load, clock } = await world(t);
    const chunks = chunksOf(2);
    await write(chunks);
    remote.fails.set('set', 'full');
    await write(chunksOf(2, '', 10));
    assert.equal(store.reading().isWritingPaused, true);
    assert.equal(store.reading().errors.full, 2);
    assert.equal((await load(chunks)).loaded.length, 2);
    assert.equal(store.isUsable, true);
    remote.fails.clear();
    clock.nowMs += 60_000;
    await write(chunksOf(2, '', 20));
    assert.equal(store.reading().writes.stored, 4);
  });
});

suite('the budget of a namespace', () => {
  test('is never exceeded by what is there, whatever is written when', async (t) => {
    const ttlMs = 16_000;
    const valueBytes = chunkBytes + 216 + 4 + 16 + 1;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ waitMs: fc.nat(ttlMs / 2), chunks: fc.integer({ min: 1, max: 4 }) }), {
          maxLength: 12,
        }),
        async (steps) => {
          const remote = new MemoryRemote();
          const { write, clock, store } = await world(t, { ttlMs, namespaceBytes: 5 * valueBytes }, remote);
          const writtenAt: number[] = [];
          for (const [i, { waitMs, chunks }] of steps.entries()) {
            clock.nowMs += waitMs;
            const before = store.reading().writes.stored;
            await write(chunksOf(chunks, 'n', 100 * i));
            for (let n = before; n < store.reading().writes.stored; n++) writtenAt.push(clock.now());
            const alive = writtenAt.filter((at) => clock.now() - at < ttlMs).length;
            assert(alive <= 5, `${alive} chunks`);
          }
          // What is over leaves room again.
          clock.nowMs += 2 * ttlMs;
          const before = store.reading().writes.stored;
          await write(chunksOf(1, 'n', 100_000));
          assert.equal(store.reading().writes.stored, before + 1);
          await store.close();
        },
      ),
      { numRuns: 30 },
    );
  });

  test('what could not be written is given back', async (t) => {
    const valueBytes = chunkBytes + 216 + 4 + 16 + 1;
    const { remote, write, clock, store } = await world(t, { namespaceBytes: 2 * valueBytes });
    remote.fails.set('set', 'full');
    await write(chunksOf(2, 'n'));
    remote.fails.clear();
    clock.nowMs += 10_000;
    await write(chunksOf(2, 'n', 10));
    assert.equal(store.reading().writes.stored, 2);
  });
});
