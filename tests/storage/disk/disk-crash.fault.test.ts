/**
 * A crash after each file operation and each transaction of a scenario, by a kill and by power cuts: what the next
 * process finds is whole, and is what was stored.
 *
 * What is held to, whatever the crash: the next start succeeds; every chunk that it tells comes after its parent, and
 * is read as the bytes of that very chunk; what was answered `stored`, and did not leave before the crash, is there;
 * files and rows agree; the budget holds; and the tier works on.
 */
import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import Database from 'better-sqlite3';
import type { ChunkIdentity, ChunkKey, DiskStore } from '#storage';

import { bytesOf, chainOf, chunkAfter, LAYOUT } from './chunks.js';
import { DiskWorld, pathOf } from './disk-world.js';
import { randomOf } from './memory-file-system.js';

const CAPACITY_CHUNKS = 6;
const POWER_CUTS = 3;

type Crash = 'kill' | 'power cut';

const chain = chainOf(4);
const tenants = chainOf(4, 'another tenant');
const chunks = new Map([...chain, ...tenants].map((chunk) => [chunk.key, chunk]));

const counts = { crashes: 0, reads: 0, wrong: 0 };
after(() =>
  console.log(
    `crash points: ${counts.crashes}, reads after them: ${counts.reads}, wrong KV: ${counts.wrong}`,
  ),
);

/** What must outlive a crash: stored, and not on its way out. */
class Promised {
  readonly keys = new Set<ChunkKey>();

  async write(disk: DiskStore, chunk: ChunkIdentity): Promise<void> {
    if ((await disk.write(chunk, bytesOf(chunk))) === 'stored') this.keys.add(chunk.key);
  }
}

/** Group commits, an eviction, a removal and a rewrite, uses, a pin, reads, a close. */
async function scenario(world: DiskWorld, promised: Promised): Promise<void> {
  const disk = world.open({ chunks: CAPACITY_CHUNKS });
  const letGo = (key: ChunkKey): void => {
    promised.keys.delete(key);
  };
  await disk.opened.catch(() => {});
  await Promise.all(chain.map((chunk) => promised.write(disk, chunk)));
  disk.pin([chain[1]!.key, chain[0]!.key], { ttlMs: 1000 });
  world.clock.nowMs += 10;
  disk.touch([chain[1]!.key, chain[0]!.key]);
  for (const chunk of tenants) {
    await promised.write(disk, chunk);
    for (const [key] of world.evicted) letGo(key);
  }
  letGo(tenants[3]!.key);
  disk.remove(tenants[3]!.key);
  await promised.write(disk, tenants[3]!);
  await disk.read(tenants[0]!.key, new Uint8Array(LAYOUT.chunkBytes));
  disk.maintain();
  await disk.close();
  for (const [key] of world.evicted) letGo(key);
}

/** A kill leaves no row without its file; a power cut may. */
async function check(
  world: DiskWorld,
  { promised, crash }: { promised: ReadonlySet<ChunkKey>; crash: Crash },
): Promise<void> {
  counts.crashes++;
  const disk = await world.opened({ chunks: CAPACITY_CHUNKS });
  disk.audit();
  if (crash === 'kill')
    assert.equal(disk.reading().counters.droppedRows, 0, 'a row comes last and goes first');
  const told = new Set<ChunkKey>();
  for (const chunk of world.told) {
    assert(chunk.parent === undefined || told.has(chunk.parent), 'after its parent');
    told.add(chunk.key);
    assert.deepEqual(chunk, chunks.get(chunk.key));
    const into = new Uint8Array(LAYOUT.chunkBytes);
    // What a crash brought back may be too much.
    if (world.evicted.some(([key, reason]) => key === chunk.key && reason === 'capacity')) continue;
    counts.reads++;
    assert.equal(await disk.read(chunk.key, into), 'hit');
    if (!Buffer.from(into).equals(bytesOf(chunk))) counts.wrong++;
  }
  assert.equal(counts.wrong, 0);
  for (const key of promised) assert(told.has(key), 'what was stored is there');
  assert(disk.usedBytes <= disk.capacityBytes);
  const extra = chunkAfter(undefined, 99);
  assert.equal(await disk.write(extra, bytesOf(extra)), 'stored');
  assert.equal(await disk.read(extra.key, new Uint8Array(LAYOUT.chunkBytes)), 'hit');
  for (const [key] of world.evicted) told.delete(key);
  await disk.close();
  const expected = [...told, extra.key].map(pathOf).sort();
  assert.deepEqual(world.files.paths().sort(), expected);
  const database = new Database(world.cataloguePath);
  const rows = database.prepare<[], string>('SELECT lower(hex(key)) FROM chunks').pluck().all();
  database.close();
  assert.deepEqual(rows.sort(), [...told, extra.key].sort());
}

/** Crashes the scenario before the operation of this number, and looks at what is left, in several ways. */
async function crashAt(operation: number, start: DiskWorld, powerCuts: number): Promise<void> {
  const world = await start.afterKill();
  const promised = new Promised();
  world.faults.crashAt = operation;
  await scenario(world, promised);
  const left: { next: DiskWorld; crash: Crash }[] = [{ next: await world.afterKill(), crash: 'kill' }];
  for (let cut = 0; cut < powerCuts; cut++) {
    const random = randomOf(operation * powerCuts + cut);
    left.push({ next: await world.afterPowerCut(random), crash: 'power cut' });
  }
  world.dispose();
  for (const { next, crash } of left) {
    await check(next, { promised: promised.keys, crash });
    next.dispose();
  }
}

/** How many operations opening takes from this start, and the whole scenario. */
async function operationsFrom(start: DiskWorld): Promise<{ readonly opening: number; readonly all: number }> {
  const opening = await start.afterKill();
  await (await opening.opened()).close();
  const world = await start.afterKill();
  await scenario(world, new Promised());
  return { opening: opening.faults.operations, all: world.faults.operations };
}

async function crashFrom(
  start: DiskWorld,
  range: { from: number; to: number; powerCuts: number },
): Promise<void> {
  for (let k = range.from; k <= range.to; k++) {
    await crashAt(k, start, range.powerCuts).catch((error: unknown) => {
      throw new Error(`crashed before operation ${k}`, { cause: error });
    });
  }
}

suite('a crash after every operation leaves all that was stored, and nothing else', () => {
  test('while a new directory is made', async () => {
    const start = new DiskWorld();
    const { opening } = await operationsFrom(start);
    await crashFrom(start, { from: 0, to: opening, powerCuts: 0 });
  });

  test('while a directory is opened, written, read and closed', async () => {
    const made = new DiskWorld();
    await (await made.opened()).close();
    const start = await made.afterKill();
    const { opening, all } = await operationsFrom(start);
    await crashFrom(start, { from: 0, to: opening - 1, powerCuts: 0 });
    await crashFrom(start, { from: opening, to: all, powerCuts: POWER_CUTS });
  });
});
