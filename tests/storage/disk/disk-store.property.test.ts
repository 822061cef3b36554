/** DiskStore against a map: random calls over the chunks of a small tree, in little room, with restarts in between. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ChunkIdentity, ChunkKey, DiskStore } from '#storage';
import { bytesOf, chunkAfter, LAYOUT } from './chunks.js';
import { DiskWorld, STORED_BYTES } from './disk-world.js';

const CAPACITY_CHUNKS = 4;

const root = chunkAfter(undefined, 0);
const left = chunkAfter(root.key, 1);
const right = chunkAfter(root.key, 2);
const TREE = [root, left, right, chunkAfter(left.key, 3), chunkAfter(right.key, 4), chunkAfter(undefined, 5)];

const call = fc.record({
  do: fc.constantFrom(
    'write',
    'write',
    'write all',
    'read',
    'remove',
    'touch',
    'lease',
    'pin',
    'unpin',
    'restart',
    'kill',
  ),
  of: fc.nat(TREE.length - 1),
  after: fc.nat(50),
});

/** A store, and the set of chunks that must be in it. */
class Pair {
  readonly stored = new Set<ChunkKey>();
  /** What was stored when the process before ended. */
  #before = new Set<ChunkKey>();
  #world = new DiskWorld();
  #disk: DiskStore | undefined;
  #evictedSeen = 0;

  async start(): Promise<void> {
    this.#disk = await this.#world.opened({ chunks: CAPACITY_CHUNKS });
    const told = new Set(this.#world.told.map(({ key }) => key));
    for (const key of told) assert(this.stored.has(key), 'nothing is told that was not stored');
    // A chunk whose parent was removed cannot be reached, so it need not outlive a restart.
    for (const key of this.stored) if (!told.has(key)) this.stored.delete(key);
    for (const { key, parent } of TREE) {
      const isReachable = parent === undefined || this.stored.has(parent);
      if (this.#before.has(key) && isReachable) assert(told.has(key), 'what was stored is told');
    }
  }

  async run(step: { readonly do: string; readonly of: number; readonly after: number }): Promise<void> {
    const disk = this.#disk!;
    const chunk = TREE[step.of]!;
    const { key } = chunk;
    this.#world.clock.nowMs += step.after;
    if (step.do === 'write') {
      const isStored = this.stored.has(key);
      const outcome = await this.#write(chunk);
      assert(isStored ? outcome === 'present' : outcome === 'stored' || outcome === 'full');
    } else if (step.do === 'write all') {
      await Promise.all(TREE.map((each) => this.#write(each)));
    } else if (step.do === 'remove') {
      assert.equal(disk.remove(key), this.stored.has(key));
    } else if (step.do === 'touch') disk.touch([key]);
    else if (step.do === 'lease' && disk.lease(key)) {
      const filler = chunkAfter(undefined, 6);
      if ((await disk.write(filler, bytesOf(filler))) === 'stored') disk.remove(filler.key);
      assert(disk.has(key), 'a leased chunk stays');
      disk.release(key);
    } else if (step.do === 'pin') disk.pin([key], { ttlMs: 100 });
    else if (step.do === 'unpin') disk.unpin([key]);
    else if (step.do === 'restart' || step.do === 'kill') await this.#restart(step.do);
    this.#leave();
  }

  async check(): Promise<void> {
    const disk = this.#disk!;
    disk.audit();
    assert(disk.usedBytes <= CAPACITY_CHUNKS * STORED_BYTES);
    for (const chunk of TREE) {
      assert.equal(disk.has(chunk.key), this.stored.has(chunk.key));
      const into = new Uint8Array(LAYOUT.chunkBytes);
      const outcome = await disk.read(chunk.key, into);
      assert.equal(outcome, this.stored.has(chunk.key) ? 'hit' : 'missing');
      if (outcome === 'hit') assert.deepEqual(into, bytesOf(chunk));
    }
  }

  async end(): Promise<void> {
    await this.#disk!.close();
    this.#world.dispose();
  }

  async #write(chunk: ChunkIdentity): Promise<string> {
    const outcome = await this.#disk!.write(chunk, bytesOf(chunk));
    this.#leave(); // before it comes: it may have gone, and be written again
    if (outcome === 'stored') this.stored.add(chunk.key);
    return outcome;
  }

  async #restart(how: 'restart' | 'kill'): Promise<void> {
    if (how === 'restart') await this.#disk!.close();
    this.#leave();
    const next = await this.#world.afterKill();
    this.#world.dispose();
    this.#world = next;
    this.#evictedSeen = 0;
    this.#before = new Set(this.stored);
    await this.start();
  }

  /** What left, left the map. */
  #leave(): void {
    for (const [key] of this.#world.evicted.slice(this.#evictedSeen)) this.stored.delete(key);
    this.#evictedSeen = this.#world.evicted.length;
  }
}

test('the store holds what a map holds, over restarts and kills, within its capacity', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(call, { maxLength: 25 }), async (calls) => {
      const pair = new Pair();
      await pair.start();
      for (const step of calls) {
        await pair.run(step);
        await pair.check();
      }
      await pair.end();
    }),
    { numRuns: 60 },
  );
});
