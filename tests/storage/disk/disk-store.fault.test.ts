/**
 * A disk that fails, lies and rots: every fault at every operation of a scenario, damaged files, damaged catalogues.
 *
 * What is held to in every case: no read gives bytes that are not the chunk's; nothing throws; what failed is counted;
 * and when the disk is sound again the store takes, keeps and gives back chunks, over a restart too.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, suite, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type ChunkIdentity, DiskError, type DiskStore } from '#storage';
import { fileBytesOf } from '../../../storage/disk/chunk-head.js';

import { bytesOf, chainOf, chunkAfter, LAYOUT } from './chunks.js';
import { DiskWorld, pathOf, STORED_BYTES } from './disk-world.js';
import type { Fault, Operation } from './faulty-file-system.js';
import { randomOf } from './memory-file-system.js';

const CAPACITY_CHUNKS = 6;
const LONGEST_PAUSE_MS = 60_000;

const chain = chainOf(4);
const others = chainOf(4, 'another tenant');

const counts = { cases: 0, reads: 0, wrong: 0 };
after(() => console.log(`faults: ${counts.cases} cases, ${counts.reads} reads, wrong KV: ${counts.wrong}`));

async function outcomeOf(disk: DiskStore, chunk: ChunkIdentity): Promise<string> {
  const into = new Uint8Array(LAYOUT.chunkBytes);
  counts.reads++;
  const outcome = await disk.read(chunk.key, into);
  if (outcome === 'hit' && !Buffer.from(into).equals(bytesOf(chunk))) counts.wrong++;
  assert.equal(counts.wrong, 0);
  return outcome;
}

const readAll = async (disk: DiskStore, chunks: readonly ChunkIdentity[]): Promise<string[]> =>
  Promise.all(chunks.map((chunk) => outcomeOf(disk, chunk)));

/** Writes, reads, an eviction, a removal, uses; nothing may throw. */
async function scenario(world: DiskWorld, disk: DiskStore): Promise<void> {
  await Promise.all(chain.map((chunk) => disk.write(chunk, bytesOf(chunk))));
  await readAll(disk, chain);
  disk.pin([chain[0]!.key], { ttlMs: 1000 });
  for (const chunk of others) {
    await disk.write(chunk, bytesOf(chunk));
    world.clock.nowMs += 100;
  }
  disk.touch([others[0]!.key]);
  disk.remove(others[3]!.key);
  await readAll(disk, [...chain, ...others]);
  disk.maintain();
  assert(disk.usedBytes <= disk.capacityBytes);
}

/** After `maintain`, and what it begins. */
async function maintained(disk: DiskStore): Promise<void> {
  disk.maintain();
  for (let turn = 0; turn < 3; turn++) await nextTurn();
}

/** Whether the store works, over a restart too, once nothing fails any more. */
async function checkUsable(world: DiskWorld, disk: DiskStore): Promise<void> {
  world.faults.plan = () => undefined;
  world.clock.nowMs += LONGEST_PAUSE_MS;
  while (disk.state === 'opening') await maintained(disk);
  await readAll(disk, [...chain, ...others]);
  const extra = chunkAfter(undefined, 99);
  assert.equal(await disk.write(extra, bytesOf(extra)), 'stored');
  assert.equal(await outcomeOf(disk, extra), 'hit');
  disk.audit();
  const left = [...chain, ...others].filter(({ key }) => disk.has(key));
  await disk.close();
  const next = await world.afterKill();
  const again = await next.opened({ chunks: CAPACITY_CHUNKS });
  assert.equal(await outcomeOf(again, extra), 'hit');
  for (const chunk of left.filter(({ key }) => again.has(key)))
    assert.equal(await outcomeOf(again, chunk), 'hit');
  await again.close();
  next.dispose();
}

/** All that the counters say went wrong. */
function troubles(disk: DiskStore): number {
  const { counters } = disk.reading();
  const ofReads = counters.readsFailed + counters.missingFiles + counters.readsCorrupt;
  return ofReads + counters.writesFailed + counters.noSpace + counters.restarts + counters.troubles;
}

/** `undefined` where the fault is not one of the operation. */
function faultOf(fault: Fault, name: Operation['name']): Fault | undefined {
  if (fault === 'short' || fault === 'torn') return name === 'write' ? fault : undefined;
  if (fault === 'broken') return name === 'change' ? fault : undefined;
  // A file that is gone when it is to be deleted is no trouble.
  return fault === 'ENOENT' && name === 'unlink' ? undefined : fault;
}

suite('an operation fails', () => {
  for (const fault of ['ENOSPC', 'EIO', 'EROFS', 'ENOENT', 'short', 'torn', 'broken'] as const) {
    test(`once, any one of them: ${fault}`, async () => {
      for (let k = 0, isOver = false; !isOver; k++) {
        const world = new DiskWorld();
        const disk = await world.opened({ chunks: CAPACITY_CHUNKS });
        const at = world.faults.operations + k;
        world.faults.plan = ({ name, index }) => (index === at ? faultOf(fault, name) : undefined);
        await scenario(world, disk);
        isOver = world.faults.operations <= at;
        if (world.faults.injected > 0) {
          counts.cases++;
          assert(troubles(disk) > 0, `operation ${k} is counted`);
        }
        await checkUsable(world, disk);
        world.dispose();
      }
    });

    test(`from some time on, all of a kind: ${fault}`, async () => {
      const ofFiles = [
        'create',
        'write',
        'sync',
        'close',
        'rename',
        'read',
        'unlink',
        'syncDirectory',
      ] as const;
      for (const kind of [...ofFiles, 'freeBytes', 'change'] as const) {
        for (let sound = 0; faultOf(fault, kind) !== undefined && sound < 6; sound++) {
          const world = new DiskWorld();
          const disk = await world.opened({ chunks: CAPACITY_CHUNKS });
          let seen = 0;
          world.faults.plan = ({ name }) => (name === kind && seen++ >= sound ? fault : undefined);
          await scenario(world, disk);
          if (world.faults.injected > 0) {
            counts.cases++;
            assert(troubles(disk) > 0);
          }
          await checkUsable(world, disk);
          world.dispose();
        }
      }
    });
  }
});

test('while the directory is opened: it is refused, or opened, and every call answered', async () => {
  const made = new DiskWorld();
  await (await made.opened()).close();
  for (const fault of ['EIO', 'EROFS', 'ENOSPC', 'broken'] as const) {
    for (let k = 0, isOver = false; !isOver; k++) {
      const world = await made.afterKill();
      world.faults.plan = ({ name, index }) => (index === k ? faultOf(fault, name) : undefined);
      const disk = world.open({ chunks: CAPACITY_CHUNKS });
      const error: unknown = await disk.opened.then(
        () => undefined,
        (reason: unknown) => reason,
      );
      isOver = world.faults.operations <= k;
      if (world.faults.injected > 0) counts.cases++;
      assert(error === undefined || error instanceof DiskError);
      if (error !== undefined) {
        assert.equal(disk.state, 'closed');
        assert.equal(await outcomeOf(disk, chain[0]!), 'unavailable');
        assert.equal(await disk.write(chain[0]!, bytesOf(chain[0]!)), 'unavailable');
      }
      await disk.close();
      world.faults.plan = () => undefined;
      const again = await world.opened({ chunks: CAPACITY_CHUNKS });
      await checkUsable(world, again);
      world.dispose();
    }
  }
  made.dispose();
});

/** A world in which the chain is stored, for the next start. */
async function storedWorld(end: 'closed' | 'killed' = 'closed'): Promise<DiskWorld> {
  const world = new DiskWorld();
  const disk = await world.opened({ chunks: CAPACITY_CHUNKS });
  for (const chunk of chain) assert.equal(await disk.write(chunk, bytesOf(chunk)), 'stored');
  if (end === 'closed') await disk.close();
  return world;
}

suite('a file', () => {
  const FILE_BYTES = fileBytesOf(chain[0]!, LAYOUT.chunkBytes);

  /** Damages the file of the first chunk while the store is open, then reads it. */
  async function outcomeAfter(damage: (files: DiskWorld['files'], path: string) => void): Promise<string> {
    counts.cases++;
    const world = await storedWorld();
    const disk = await world.opened({ chunks: CAPACITY_CHUNKS });
    damage(world.files, pathOf(chain[0]!.key));
    const outcome = await outcomeOf(disk, chain[0]!);
    assert.equal(troubles(disk), 1);
    assert.deepEqual(await readAll(disk, chain.slice(1)), ['hit', 'hit', 'hit']);
    await checkUsable(world, disk);
    world.dispose();
    return outcome;
  }

  test('with a flipped bit in header, meta or payload is read as corrupt', async () => {
    const random = randomOf(1);
    for (let i = 0; i < 100; i++) {
      const bit = Math.floor(random() * FILE_BYTES * 8);
      assert.equal(await outcomeAfter((files, path) => files.flipBit(path, bit)), 'corrupt', `bit ${bit}`);
    }
  });

  test('that was cut short is read as corrupt', async () => {
    for (let length = 0; length < FILE_BYTES; length += 25)
      assert.equal(await outcomeAfter((files, path) => files.truncate(path, length)), 'corrupt');
  });

  test('with something behind its end is read as corrupt', async () => {
    assert.equal(await outcomeAfter((files, path) => files.append(path, Buffer.alloc(1))), 'corrupt');
  });

  test('in the place of another is read as corrupt', async () => {
    const other = pathOf(chain[1]!.key);
    assert.equal(await outcomeAfter((files, path) => files.copy(other, path)), 'corrupt');
  });

  test('that is gone is a failed read', async () => {
    const outcome = await outcomeAfter((files, path) => {
      void files.unlink(path);
    });
    assert.equal(outcome, 'failed');
  });

  test('of which reads lie is corrupt, and what is read right again is right', async () => {
    const random = randomOf(2);
    for (let i = 0; i < 25; i++) {
      counts.cases++;
      const world = await storedWorld();
      const disk = await world.opened({ chunks: CAPACITY_CHUNKS });
      const bit = Math.floor(random() * FILE_BYTES * 8);
      world.files.flipInReads = bit;
      assert.deepEqual(await readAll(disk, chain.slice(0, 2)), ['corrupt', 'corrupt']);
      world.files.flipInReads = undefined;
      assert.deepEqual(await readAll(disk, chain.slice(2)), ['hit', 'hit']);
      await checkUsable(world, disk);
      world.dispose();
    }
  });
});

suite('a catalogue', () => {
  test('with flipped bits anywhere never lets a chunk be found as another', async () => {
    const random = randomOf(3);
    for (let i = 0; i < 200; i++) {
      counts.cases++;
      const before = await storedWorld(i % 2 === 0 ? 'closed' : 'killed');
      const world = await before.afterKill();
      before.dispose();
      const path = i % 4 === 3 ? `${world.cataloguePath}-wal` : world.cataloguePath;
      const bytes = readFileSync(path);
      for (let flip = 0; flip <= i % 8; flip++) {
        const bit = Math.floor(random() * bytes.byteLength * 8);
        // In SQLite's `user_version` it would look like a newer release, which is refused.
        if (bit >> 3 < 60 || bit >> 3 >= 64) bytes[bit >> 3]! ^= 1 << (bit & 7);
      }
      writeFileSync(path, bytes);
      const disk = await world.opened({ chunks: CAPACITY_CHUNKS });
      for (const chunk of world.told) {
        assert.deepEqual(
          chunk,
          chain.find(({ key }) => key === chunk.key),
        );
        if ((await outcomeOf(disk, chunk)) !== 'hit') assert(troubles(disk) > 0);
      }
      await checkUsable(world, disk);
      world.dispose();
    }
  });

  test('that breaks in use is made anew, and nothing that was stored is lost', async () => {
    const world = new DiskWorld();
    const disk = await world.opened({ chunks: CAPACITY_CHUNKS });
    await Promise.all(chain.map((chunk) => disk.write(chunk, bytesOf(chunk))));
    world.faults.plan = ({ name }) => (name === 'change' ? 'broken' : undefined);
    assert.equal(await disk.write(others[0]!, bytesOf(others[0]!)), 'failed');
    assert.equal(disk.state, 'opening');
    assert.equal(await outcomeOf(disk, chain[0]!), 'unavailable');
    assert.equal(await disk.write(others[0]!, bytesOf(others[0]!)), 'unavailable');
    world.faults.plan = () => undefined;
    while (disk.state === 'opening') await nextTurn();
    assert.deepEqual(await readAll(disk, chain), ['hit', 'hit', 'hit', 'hit']);
    const { restarts, cataloguesRebuilt, orphansAdopted } = disk.reading().counters;
    assert.deepEqual([restarts, cataloguesRebuilt, orphansAdopted], [1, 1, 4]);
    assert(world.lost[0] instanceof DiskError && world.lost[0].code === 'catalogue_lost');
    assert.deepEqual([world.told, world.evicted], [[], []], 'to its callers nothing changed');
    await checkUsable(world, disk);
    world.dispose();
  });
});

suite('a full volume', () => {
  test('pauses writing, longer each time, and never reading', async () => {
    const world = await storedWorld();
    const disk = await world.opened({ chunks: CAPACITY_CHUNKS });
    world.faults.plan = ({ name }) => (name === 'write' ? 'ENOSPC' : undefined);
    const write = () => disk.write(others[0]!, bytesOf(others[0]!));
    for (const pauseMs of [1000, 2000, 4000]) {
      const { operations } = world.faults;
      assert.equal(await write(), 'failed');
      assert(world.faults.operations > operations);
      world.clock.nowMs += pauseMs - 1;
      assert.equal(await write(), 'failed');
      assert.deepEqual(await readAll(disk, chain), ['hit', 'hit', 'hit', 'hit']);
      world.clock.nowMs += 1;
    }
    const { noSpace, writesPaused } = disk.reading().counters;
    assert.deepEqual([noSpace, writesPaused], [3, 3]);
    world.faults.plan = () => undefined;
    assert.equal(await write(), 'stored');
    await checkUsable(world, disk);
    world.dispose();
  });

  test('has chunks go, so that others keep their room', async () => {
    const world = await storedWorld();
    const freeBytesMin = 10 * STORED_BYTES;
    world.files.free = freeBytesMin + 2 * STORED_BYTES;
    const disk = await world.opened({ chunks: CAPACITY_CHUNKS, freeBytesMin });
    assert.equal(await disk.write(others[0]!, bytesOf(others[0]!)), 'stored');
    await maintained(disk);
    assert.deepEqual(world.evicted, []);
    world.files.free = freeBytesMin - STORED_BYTES;
    await maintained(disk);
    assert.deepEqual(world.evicted, [[chain[3]!.key, 'capacity']]);
    world.files.free = freeBytesMin;
    await maintained(disk);
    assert.equal(await disk.write(others[1]!, bytesOf(others[1]!)), 'stored');
    assert.deepEqual(world.evicted.slice(1), [[chain[2]!.key, 'capacity']]);
    world.files.free = 1e12;
    await checkUsable(world, disk);
    world.dispose();
  });
});

test('a clock that jumps back for ever stops no writing', async () => {
  const world = new DiskWorld();
  const disk = await world.opened({ chunks: CAPACITY_CHUNKS });
  world.faults.plan = ({ name }) => (name === 'write' ? 'EIO' : undefined);
  assert.equal(await disk.write(chain[0]!, bytesOf(chain[0]!)), 'failed');
  world.faults.plan = () => undefined;
  world.clock.nowMs -= 900_000;
  assert.equal(await disk.write(chain[0]!, bytesOf(chain[0]!)), 'stored');
  await checkUsable(world, disk);
  world.dispose();
});
