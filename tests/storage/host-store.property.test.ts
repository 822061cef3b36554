/** HostStore against a list in order of use: random calls over few keys and fewer slots. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ChunkKey, HostStore } from '#storage';
import { key } from './chunk-store.contract.js';

const KEYS = [0, 1, 2, 3, 4, 5].map(key);
const SLOTS = 3;
const CHUNK_BYTES = 8;

const op = fc.constantFrom('reserve', 'commit', 'abort', 'lease', 'release', 'remove', 'touch', 'lookup');
const call = fc.record({ do: op, key: fc.constantFrom(...KEYS) });

interface ModelChunk {
  readonly key: ChunkKey;
  state: 'reserved' | 'sealed' | 'condemned';
  leases: number;
}

/** Chunks from least to most recently used. */
class Model {
  chunks: ModelChunk[] = [];
  readonly evicted: string[] = [];

  get(wanted: ChunkKey, state?: ModelChunk['state']): ModelChunk | undefined {
    return this.chunks.find((c) => c.key === wanted && (state === undefined || c.state === state));
  }

  drop(chunk: ModelChunk): void {
    this.chunks = this.chunks.filter((c) => c !== chunk);
  }

  use(chunk: ModelChunk): void {
    this.drop(chunk);
    this.chunks.push(chunk);
  }

  /** Whether there is a slot for the key. */
  reserve(wanted: ChunkKey): boolean {
    if (this.get(wanted) !== undefined) return false;
    if (this.chunks.length === SLOTS) {
      const victim = this.chunks.find((c) => c.state === 'sealed' && c.leases === 0);
      if (victim === undefined) return false;
      this.drop(victim);
      this.evicted.push(`${victim.key} capacity`);
    }
    this.chunks.push({ key: wanted, state: 'reserved', leases: 0 });
    return true;
  }

  release(chunk: ModelChunk): void {
    chunk.leases--;
    if (chunk.leases > 0) return;
    if (chunk.state === 'condemned') this.drop(chunk);
    else this.use(chunk);
  }

  remove(chunk: ModelChunk): void {
    if (chunk.leases > 0) chunk.state = 'condemned';
    else this.drop(chunk);
    this.evicted.push(`${chunk.key} deleted`);
  }
}

class Pair {
  readonly model = new Model();
  readonly evicted: string[] = [];
  readonly store = new HostStore({
    chunkBytes: CHUNK_BYTES,
    capacityBytes: SLOTS * CHUNK_BYTES,
    checksum: () => 0n,
    onEvict: (gone, reason) => this.evicted.push(`${gone} ${reason}`),
  });
  readonly #slots = new Map<ChunkKey, number>();

  run(step: { do: string; key: ChunkKey }): void {
    const { store, model } = this;
    const sealed = model.get(step.key, 'sealed');
    const reserved = model.get(step.key, 'reserved');
    if (step.do === 'reserve' && sealed === undefined && reserved === undefined) {
      const slot = store.reserve(step.key);
      assert.equal(slot !== undefined, model.reserve(step.key));
      if (slot !== undefined) this.#slots.set(step.key, slot);
    } else if (step.do === 'commit' && reserved !== undefined) {
      store.commit(step.key, 0n);
      reserved.state = 'sealed';
      model.use(reserved);
    } else if (step.do === 'abort' && reserved !== undefined) {
      store.abort(step.key);
      model.drop(reserved);
    } else if (step.do === 'lease') {
      assert.equal(store.lease(step.key), sealed !== undefined);
      if (sealed !== undefined) sealed.leases++;
    } else if (step.do === 'release' && (model.get(step.key)?.leases ?? 0) > 0) {
      store.release(step.key);
      model.release(model.get(step.key)!);
    } else if (step.do === 'remove') {
      assert.equal(store.remove(step.key), sealed !== undefined);
      if (sealed !== undefined) model.remove(sealed);
    } else if (step.do === 'touch') {
      store.touch([step.key]);
      if (sealed?.leases === 0) model.use(sealed);
    } else if (step.do === 'lookup') {
      assert.equal(store.lookup(step.key)?.slot, sealed && this.#slots.get(step.key));
    }
  }

  check(): void {
    assert.equal(this.store.usedBytes, this.model.chunks.length * CHUNK_BYTES);
    assert(this.store.usedBytes <= this.store.capacityBytes);
    assert.deepEqual(this.evicted, this.model.evicted);
    const slots = this.model.chunks.map((c) => this.#slots.get(c.key));
    assert.equal(new Set(slots).size, slots.length, 'no two chunks share a slot');
  }
}

test('the store does what a list in order of use does, and its bytes never exceed the capacity', () => {
  fc.assert(
    fc.property(fc.array(call, { maxLength: 80 }), (calls) => {
      const pair = new Pair();
      for (const step of calls) {
        pair.run(step);
        pair.check();
      }
    }),
    { numRuns: 500 },
  );
});
