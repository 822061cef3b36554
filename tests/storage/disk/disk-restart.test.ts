/** What a disk tier still knows after its process ended, and what it must not believe any more. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { suite, test } from 'node:test';
import Database from 'better-sqlite3';
import { type ChunkIdentity, DiskError, type DiskStore, kvLayout } from '#storage';

import { bytesOf, chainOf, chunkAfter, LAYOUT } from './chunks.js';
import { DiskWorld, pathOf, STORED_BYTES, type WorldOptions } from './disk-world.js';

const chain = chainOf(4);
const [first, second, third, fourth] = [chain[0]!, chain[1]!, chain[2]!, chain[3]!];

async function store(disk: DiskStore, chunks: readonly ChunkIdentity[], layout = LAYOUT): Promise<void> {
  for (const chunk of chunks) assert.equal(await disk.write(chunk, bytesOf(chunk, layout)), 'stored');
}

async function readOf(disk: DiskStore, { key }: ChunkIdentity): Promise<Uint8Array | string> {
  const into = new Uint8Array(disk.chunkBytes);
  const outcome = await disk.read(key, into);
  return outcome === 'hit' ? into : outcome;
}

/** A world in which these chunks were stored and the store closed, as the next process finds it. */
async function worldWith(chunks: readonly ChunkIdentity[], options: WorldOptions = {}): Promise<DiskWorld> {
  const world = new DiskWorld();
  const disk = await world.opened(options);
  await store(disk, chunks, options.layout);
  await disk.close();
  return world.afterKill();
}

suite('after a restart', () => {
  test('every chunk is told once, after its parent, and read as it was', async () => {
    const side = chunkAfter(second.key, 9);
    const world = await worldWith([...chain, side]);
    const disk = world.open();
    assert.deepEqual([disk.state, disk.chunks, world.told], ['opening', 0, []]);
    await disk.opened;
    assert.deepEqual(new Set(world.told), new Set([...chain, side]));
    for (const [i, { parent }] of world.told.entries())
      assert(parent === undefined || world.told.slice(0, i).some(({ key }) => key === parent));
    for (const chunk of [...chain, side]) assert.deepEqual(await readOf(disk, chunk), bytesOf(chunk));
    assert.equal(disk.usedBytes, 5 * STORED_BYTES);
    assert.deepEqual([disk.chunks, disk.exactOf(side.key)], [5, true]);
    disk.audit();
    await disk.close();
  });

  test('a killed process loses nothing that was stored', async () => {
    const world = new DiskWorld();
    await store(await world.opened(), chain);
    const next = await world.afterKill();
    const disk = await next.opened();
    assert.deepEqual(next.told, chain);
    for (const chunk of chain) assert.deepEqual(await readOf(disk, chunk), bytesOf(chunk));
    await disk.close();
  });

  test('a removed chunk stays removed', async () => {
    const world = new DiskWorld();
    const disk = await world.opened();
    await store(disk, chain);
    disk.lease(fourth.key);
    assert(disk.remove(fourth.key));
    await disk.close();
    const next = await world.afterKill();
    await (await next.opened()).close();
    assert.deepEqual(next.told, chain.slice(0, 3));
    assert.equal(next.files.paths().length, 3);
  });

  test('uses, pins, TTLs and priorities are remembered', async () => {
    const world = new DiskWorld();
    const disk = await world.opened();
    await store(disk, [first]);
    await store(disk, [second]);
    disk.retain([second.key], { ttlMs: 5000, priority: 70 });
    assert.equal(disk.pin([first.key], { ttlMs: 9000 }), 'pinned');
    world.clock.nowMs += 1000;
    disk.touch([second.key, first.key]);
    await disk.close();
    const next = await world.afterKill();
    next.clock.nowMs += 4999;
    const again = await next.opened();
    assert.equal(again.pinTtlMs(first.key), 9000);
    assert.deepEqual(again.retention(second.key), { ttlMs: 5000, priority: 70 });
    next.clock.nowMs += 1;
    assert.equal(again.has(second.key), false);
    next.clock.nowMs += 3999;
    assert(again.has(first.key));
    assert.equal(again.pinTtlMs(first.key), 9000);
    next.clock.nowMs += 1;
    assert.equal(again.pinnedBytes, 0);
    await again.close();
  });

  test('the least recently used chunk goes first, as if there had been no restart', async () => {
    const roots = [0, 1, 2].map((name) => chunkAfter(undefined, name));
    const world = new DiskWorld();
    const disk = await world.opened({ chunks: 3 });
    for (const root of roots) {
      await store(disk, [root]);
      world.clock.nowMs++;
    }
    disk.touch([roots[0]!.key]);
    await disk.close();
    const next = await world.afterKill();
    const again = await next.opened({ chunks: 3 });
    await store(again, [chunkAfter(undefined, 3)]);
    assert.deepEqual(next.evicted, [[roots[1]!.key, 'capacity']]);
    await again.close();
  });

  test('a clock that was put back gives neither a pin nor a TTL more time than its own', async () => {
    const world = new DiskWorld();
    const disk = await world.opened();
    await disk.store(first, bytesOf(first), { ttlMs: 1000 });
    await disk.store(second, bytesOf(second), {});
    disk.pin([second.key], { ttlMs: 1000 });
    await disk.close();
    const next = await world.afterKill();
    next.clock.nowMs -= 900_000;
    const again = await next.opened();
    assert(again.has(first.key));
    next.clock.nowMs += 1000;
    assert.equal(again.pinnedBytes, 0);
    assert.equal(again.has(first.key), false);
    await again.close();
  });

  test('a smaller budget has chunks go at once, from the ends of prefixes', async () => {
    const world = await worldWith(chain);
    const disk = await world.opened({ chunks: 2 });
    assert.deepEqual(world.told, chain);
    assert.deepEqual(world.evicted, [
      [fourth.key, 'capacity'],
      [third.key, 'capacity'],
    ]);
    assert.equal(disk.usedBytes, 2 * STORED_BYTES);
    disk.audit();
    await disk.close();
    assert.equal(world.files.paths().length, 2);
  });
});

suite('after a restart with something else', () => {
  const cases: Record<string, [WorldOptions, WorldOptions]> = {
    'another model': [{}, { fingerprint: 'another model' }],
    'another KV layout': [{}, { layout: kvLayout({ ...LAYOUT, kvHeads: 2, headDim: 4 }) }],
    'a new encryption key': [{}, { encryptionKey: Buffer.alloc(32, 1) }],
    'another encryption key': [
      { encryptionKey: Buffer.alloc(32, 1) },
      { encryptionKey: Buffer.alloc(32, 2) },
    ],
    'no encryption key': [{ encryptionKey: Buffer.alloc(32, 1) }, {}],
  };
  for (const [name, [before, now]] of Object.entries(cases)) {
    test(`${name}: nothing is found, but takes room until it makes some`, async () => {
      const world = await worldWith(chain, before);
      const disk = await world.opened({ ...now, chunks: 4 });
      assert.deepEqual([world.told, disk.chunks], [[], 0]);
      assert.equal(disk.reading().foreignBytes, 4 * STORED_BYTES);
      assert.equal(await readOf(disk, first), 'missing');
      assert.deepEqual(
        [disk.has(first.key), disk.lease(first.key), disk.remove(first.key)],
        [false, false, false],
      );
      assert.equal(disk.pin([first.key], { ttlMs: 1 }), 'missing');
      disk.touch([first.key]);
      assert.equal(await disk.write(first, bytesOf(first)), 'stored');
      assert.deepEqual(await readOf(disk, first), bytesOf(first));
      assert.equal(disk.usedBytes, 4 * STORED_BYTES);
      for (const chunk of [10, 11, 12].map((root) => chunkAfter(undefined, root)))
        assert.equal(await disk.write(chunk, bytesOf(chunk)), 'stored');
      assert.equal(disk.reading().foreignBytes, 0);
      assert.deepEqual(world.evicted, []);
      disk.audit();
      await disk.close();
    });
  }

  test('the same key opens what it encrypted', async () => {
    const encryptionKey = Buffer.alloc(32, 1);
    const world = await worldWith(chain, { encryptionKey });
    const disk = await world.opened({ encryptionKey });
    assert.deepEqual(world.told, chain);
    for (const chunk of chain) assert.deepEqual(await readOf(disk, chunk), bytesOf(chunk));
    await disk.close();
    const catalogue = readFileSync(world.cataloguePath);
    assert.equal(catalogue.includes(Buffer.from(third.tokens.buffer)), false);
  });

  test('another codec of the same layout is read, and known as lossy where it was', async () => {
    const layout = kvLayout({ ...LAYOUT, dtype: 'float32' });
    const world = await worldWith([first], { layout, codec: 'float16' });
    const disk = await world.opened({ layout, codec: 'float32' });
    assert.notEqual(await readOf(disk, first), 'corrupt');
    assert.equal(disk.exactOf(first.key), false);
    await store(disk, [second], layout);
    assert.equal(disk.exactOf(second.key), true);
    assert.deepEqual(await readOf(disk, second), bytesOf(second, layout));
    await disk.close();
  });
});

suite('files and catalogue that disagree', () => {
  test('a row without its file is dropped, and what came after it', async () => {
    const world = await worldWith(chain);
    await world.files.unlink(pathOf(second.key));
    const disk = await world.opened();
    assert.deepEqual(world.told, [first]);
    assert.equal(disk.reading().counters.droppedRows, 3);
    await disk.close();
    assert.deepEqual(world.files.paths(), [pathOf(first.key)]);
  });

  test('sound files without a row are taken back, a file that was never finished is deleted', async () => {
    const world = await worldWith(chain);
    const database = new Database(world.cataloguePath);
    database.exec('DELETE FROM chunks');
    database.close();
    world.files.flipBit(pathOf(fourth.key), 8 * 100);
    const unfinished = await world.files.create(pathOf(first.key).replace('.kv', '.tmp'));
    await unfinished.write([Buffer.from('half')]);
    const disk = await world.opened();
    assert.deepEqual(new Set(world.told), new Set([first, second, third]));
    const { orphansAdopted, orphansCollected } = disk.reading().counters;
    assert.deepEqual([orphansAdopted, orphansCollected], [3, 2]);
    for (const chunk of [first, second, third]) assert.deepEqual(await readOf(disk, chunk), bytesOf(chunk));
    await disk.close();
    const next = await world.afterKill();
    await (await next.opened()).close();
    assert.equal(next.told.length, 3);
  });

  test('a file that is not ours is left alone', async () => {
    const world = await worldWith([first]);
    const note = pathOf(first.key).replace(/[^/]*$/, 'README');
    await world.files.create(note);
    await (await world.opened()).close();
    assert(world.files.paths().includes(note));
  });

  test('a row that was changed is not believed: its file speaks for itself', async () => {
    for (const change of [
      "tokens = x'0900000007000000'",
      "namespace = 'another'",
      'parent = zeroblob(32)',
      'parent = zeroblob(3)',
      'key = zeroblob(3)',
      'key = zeroblob(32)',
      'file_bytes = file_bytes + 1',
      'codec = 7',
      'priority = 1e9',
      'hits = -1',
      'ttl_ms = -1',
    ]) {
      const world = await worldWith([first]);
      const database = new Database(world.cataloguePath);
      database.exec(`UPDATE chunks SET ${change}`);
      database.close();
      const disk = await world.opened();
      assert.deepEqual(world.told, [first], change);
      const { droppedRows, orphansAdopted } = disk.reading().counters;
      assert.deepEqual([droppedRows, orphansAdopted], [1, 1], change);
      assert.deepEqual(await readOf(disk, first), bytesOf(first));
      await disk.close();
    }
  });

  test('a row that calls a lossy chunk exact is found out when it is read', async () => {
    const world = await worldWith([first]);
    const database = new Database(world.cataloguePath);
    database.exec('UPDATE chunks SET exact = 0');
    database.close();
    const disk = await world.opened();
    assert.equal(await readOf(disk, first), 'corrupt');
    await disk.close();
  });
});

suite('a catalogue that is', () => {
  const corruptions: Record<string, (bytes: Buffer) => Buffer> = {
    'overwritten at its start': (bytes) => bytes.fill(7, 0, 100),
    'cut short': (bytes) => bytes.subarray(0, 5000),
    'overwritten in its middle': (bytes) => bytes.fill(255, 4096, 12_000),
    empty: () => Buffer.alloc(0),
  };
  for (const [name, corrupt] of Object.entries(corruptions)) {
    test(`${name} is made anew from the files, and kept aside`, async () => {
      const world = await worldWith(chain);
      writeFileSync(world.cataloguePath, corrupt(readFileSync(world.cataloguePath)));
      const disk = await world.opened();
      assert.deepEqual(new Set(world.told), new Set(chain));
      const { cataloguesRebuilt, orphansAdopted } = disk.reading().counters;
      assert.equal(orphansAdopted, 4);
      assert.equal(cataloguesRebuilt, name === 'empty' ? 0 : 1);
      assert.equal(existsSync(`${world.cataloguePath}.corrupt`), cataloguesRebuilt === 1);
      for (const chunk of chain) assert.deepEqual(await readOf(disk, chunk), bytesOf(chunk));
      await disk.close();
    });
  }

  test('of a newer release is refused, and left as it is', async () => {
    const world = await worldWith(chain);
    const database = new Database(world.cataloguePath);
    database.pragma('user_version = 99');
    database.close();
    const disk = world.open();
    await assert.rejects(
      disk.opened,
      (error) => error instanceof DiskError && error.code === 'disk_version' && /99/.test(error.message),
    );
    assert.equal(disk.state, 'closed');
    assert.equal(world.files.paths().length, 4);
    await disk.close();
  });

  test('in use is refused', async () => {
    const world = new DiskWorld();
    const disk = await world.opened();
    await assert.rejects(
      world.open().opened,
      (error) => error instanceof DiskError && error.code === 'disk_in_use',
    );
    await store(disk, chain);
    await disk.close();
  });
});
