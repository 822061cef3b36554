/** PrefixCache over two small tiers against a set of sealed prefixes: random calls over two symbols, chunks of two. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import {
  createChecksum,
  HostStore,
  kvLayout,
  slotBytes,
  TieredStore,
  WRITE_POLICIES,
  type WritePolicy,
} from '#storage';
import { PrefixCache, type PrefixLease, type ReservedChunk } from '../../src/cache/prefix-cache.js';
import { ManualClock } from '../support/manual-clock.js';
import { MemoryLowerStore } from '../support/memory-lower-store.js';

const layout = kvLayout({ layers: 1, kvHeads: 1, headDim: 2, chunkTokens: 2, dtype: 'float32' });
const { chunkBytes } = layout;
const checksum = await createChecksum();

const namespace = fc.constantFrom('a', 'a', 'a', 'b');
const symbol = fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constant(1) });
const tokens = fc.array(symbol, { minLength: 1, maxLength: 12 }).map((list) => Int32Array.from(list));
const of = <Name extends string>(name: Name) => ({
  do: fc.constant(name),
  namespace,
  tokens,
  pick: fc.nat(),
  chunk: fc.nat(),
});
const call = fc.oneof(
  { weight: 4, arbitrary: fc.record(of('acquire')) },
  { weight: 6, arbitrary: fc.record(of('release')) },
  { weight: 4, arbitrary: fc.record(of('promote')) },
  { weight: 3, arbitrary: fc.record(of('use')) },
  { weight: 3, arbitrary: fc.record(of('corrupt')) },
  { weight: 3, arbitrary: fc.record(of('lose')) },
  { weight: 6, arbitrary: fc.record(of('reserve')) },
  { weight: 6, arbitrary: fc.record(of('commit')) },
  { weight: 2, arbitrary: fc.record(of('abort')) },
  { weight: 2, arbitrary: fc.record(of('flush')) },
  { weight: 2, arbitrary: fc.record(of('forget')) },
  { weight: 2, arbitrary: fc.record(of('pin')) },
  { weight: 2, arbitrary: fc.record(of('unpin')) },
  { weight: 2, arbitrary: fc.record(of('retain')) },
  { weight: 2, arbitrary: fc.record(of('hold')) },
  { weight: 2, arbitrary: fc.record(of('let go')) },
);
type Call = typeof call extends fc.Arbitrary<infer T> ? T : never;

interface Held {
  readonly namespace: string;
  readonly tokens: Int32Array;
  readonly lease: PrefixLease;
}

/** Without the chunk at the end that is not whole. */
function whole(prefix: Int32Array): Int32Array {
  return prefix.subarray(0, prefix.length - (prefix.length % layout.chunkTokens));
}

/** The bytes that a chunk of a prefix must have: they name its namespace and every token up to its end. */
function contentOf(ns: string, prefix: Int32Array): Uint8Array {
  const bytes = new Uint8Array(chunkBytes);
  bytes.set(Buffer.from(`${ns}${prefix.join('')}`).subarray(0, chunkBytes));
  return bytes;
}

interface Sizes {
  readonly host: number;
  readonly disk: number;
  readonly writePolicy: WritePolicy;
}

class Harness {
  readonly cache: PrefixCache;
  readonly held: Held[] = [];
  #store!: TieredStore;
  #below!: MemoryLowerStore;
  /** While the disk does not answer: has it answer. */
  #letGo: (() => void) | undefined;
  /** Whole prefixes that were ever sealed: only these may be found. */
  readonly #sealed = new Set<string>();
  #seal: (Held & { readonly chunks: readonly ReservedChunk[] }) | undefined;

  constructor({ host, disk, writePolicy }: Sizes) {
    const common = { chunkBytes, checksum, clock: new ManualClock() };
    this.cache = new PrefixCache({
      layout,
      fingerprint: 'test',
      store: ({ evict, tierEvict }) => {
        this.#store = new TieredStore({
          host: (onEvict) => new HostStore({ ...common, capacityBytes: host * chunkBytes, onEvict }),
          disk: (onEvict) => {
            this.#below = new MemoryLowerStore({ ...common, capacityBytes: disk * chunkBytes, onEvict });
            return this.#below;
          },
          writePolicy,
          writeHits: 2,
          onEvict: evict,
          onTierEvict: tierEvict,
        });
        return this.#store;
      },
    });
  }

  async run(step: Call): Promise<void> {
    const calls: Record<Call['do'], () => unknown> = {
      acquire: () => this.#acquire(step.namespace, step.tokens),
      release: () => this.#release(step.pick),
      promote: () => this.#promote(step.pick, step.chunk),
      use: () => this.#use(step.pick),
      corrupt: () => this.#corrupt(step.pick, step.chunk),
      lose: () => this.#lose(step.chunk),
      reserve: () => this.#reserve(step.namespace, step.tokens),
      commit: () => this.#commit(),
      abort: () => this.#abort(),
      flush: () => (this.#letGo === undefined ? this.#store.flushed() : undefined),
      forget: () => this.#forget(step.namespace, step.tokens),
      pin: () => this.#pin(step.namespace, whole(step.tokens)),
      unpin: () => this.cache.unpin({ namespace: step.namespace, tokens: whole(step.tokens) }),
      retain: () =>
        this.cache.retain(
          { namespace: step.namespace, tokens: whole(step.tokens) },
          { priority: step.pick % 101 },
        ),
      hold: () => {
        this.#letGo ??= this.#below.hold();
      },
      'let go': () => this.#resume(),
    };
    await calls[step.do]();
  }

  #acquire(ns: string, prefix: Int32Array): void {
    const lease = this.cache.acquire(ns, prefix, 'row');
    const held = { namespace: ns, tokens: prefix, lease };
    this.held.push(held);
    assert(lease.tokens <= prefix.length);
    for (const [i, { rows, key }] of lease.found.entries()) {
      assert(rows === layout.chunkTokens || i === lease.found.length - 1, 'only the last chunk is cut');
      assert(this.#store.has(key), 'what is found is in some tier');
    }
    this.#read(held);
  }

  #read({ namespace: ns, tokens: prefix, lease }: Held): void {
    for (const [i, { slot, rows, checksum: sum }] of this.cache.readable(lease, 0).entries()) {
      const bytes = slotBytes(this.cache.slab, slot);
      // A bit that was flipped is for the reader to find, by this checksum.
      if (checksum(bytes) !== sum) continue;
      const rest = Buffer.from(bytes).toString('latin1').replaceAll('\0', '');
      const own = `${ns}${prefix.subarray(0, i * layout.chunkTokens + rows).join('')}`;
      assert(rest.startsWith(own), `${own} is read from ${rest}`);
      assert(this.#sealed.has(rest));
    }
  }

  /** The last chunk of a path that nothing ever followed is found no more, though someone may still read it. */
  #forget(ns: string, prefix: Int32Array): void {
    const before = this.cache.acquire(ns, prefix, 'whole chunks');
    this.cache.release(before);
    this.cache.forget(ns, prefix);
    const after = this.cache.acquire(ns, prefix, 'whole chunks');
    const gone = before.found.slice(after.found.length);
    const reach = `${ns}${prefix.subarray(0, before.tokens).join('')}`;
    const isFollowed = [...this.#sealed].some((own) => own.length > reach.length && own.startsWith(reach));
    assert(before.tokens === 0 || isFollowed || gone.length > 0);
    assert(gone.every(({ key }) => !this.#store.has(key)));
    assert(after.found.every(({ key }, i) => key === before.found[i]!.key));
    this.cache.release(after);
  }

  #pin(ns: string, prefix: Int32Array): void {
    const outcome = this.cache.pin({ namespace: ns, tokens: prefix }, { ttlMs: 1000 });
    if (outcome !== 'pinned') return;
    const found = this.cache.acquire(ns, prefix, 'whole chunks');
    assert.equal(found.tokens, prefix.length, 'only what is there is pinned');
    this.cache.release(found);
  }

  #release(pick: number): void {
    const [going] = this.held.splice(pick % Math.max(1, this.held.length), 1);
    if (going !== undefined) this.cache.release(going.lease);
  }

  #chosen(pick: number, index: number) {
    const holder = this.held[pick % Math.max(1, this.held.length)];
    const chunk = holder?.lease.found[index % Math.max(1, holder.lease.found.length)];
    return holder && chunk && { holder, chunk };
  }

  async #promote(pick: number, index: number): Promise<void> {
    const chosen = this.#chosen(pick, index);
    if (chosen === undefined) return;
    const promotion = this.cache.promote(chosen.chunk);
    if (this.#letGo !== undefined) return;
    const isThere = await promotion;
    assert.equal(this.#store.host.has(chosen.chunk.key), isThere);
    this.#read(chosen.holder);
  }

  /** The disk answers again, what it was asked meanwhile too. */
  async #resume(): Promise<void> {
    this.#letGo?.();
    this.#letGo = undefined;
    await new Promise((resolve) => setImmediate(resolve));
  }

  #use(pick: number): void {
    const holder = this.held[pick % Math.max(1, this.held.length)];
    if (holder !== undefined) this.cache.use(holder.lease.found);
  }

  /** Flips a bit of a chunk that someone has leased, who then notices. */
  #corrupt(pick: number, index: number): void {
    const chosen = this.#chosen(pick, index);
    const place = chosen && this.#store.lookup(chosen.chunk.key);
    if (chosen === undefined || place === undefined) return;
    slotBytes(this.cache.slab, place.slot)[0]! ^= 0x80;
    this.cache.condemn(chosen.chunk);
    this.#mustBeMissed(chosen.chunk.key, chosen.holder);
  }

  /** The disk loses a chunk. */
  #lose(pick: number): void {
    const keys = this.#below.keys();
    const key = keys[pick % Math.max(1, keys.length)];
    if (key !== undefined) this.#below.remove(key, 'failed');
  }

  #mustBeMissed(key: PrefixLease['found'][number]['key'], holder: Held): void {
    const again = this.cache.acquire(holder.namespace, holder.tokens, 'row');
    const isFound = again.found.some((chunk) => chunk.key === key);
    assert(!isFound || this.#store.has(key), 'a lost chunk ends every match');
    this.cache.release(again);
  }

  #reserve(ns: string, prefix: Int32Array): void {
    if (this.#seal !== undefined) return;
    const sealed = whole(prefix);
    const lease = this.cache.acquire(ns, sealed, 'whole chunks');
    const chunks = this.cache.reserve(ns, sealed, lease);
    for (const [i, { index }] of chunks.entries()) assert.equal(index, lease.found.length + i);
    this.#seal = { namespace: ns, tokens: sealed, lease, chunks };
  }

  #commit(): void {
    if (this.#seal === undefined) return;
    const { namespace: ns, tokens: prefix, lease, chunks } = this.#seal;
    const checksums = chunks.map(({ slot, index }) => {
      const own = prefix.subarray(0, (index + 1) * layout.chunkTokens);
      this.#sealed.add(`${ns}${own.join('')}`);
      const bytes = slotBytes(this.cache.slab, slot);
      bytes.set(contentOf(ns, own));
      return checksum(bytes);
    });
    this.cache.commit(ns, prefix, { lease, chunks, checksums });
    if (lease.found.every(({ key }) => this.#store.has(key))) {
      const found = this.cache.acquire(ns, prefix, 'whole chunks');
      assert(found.found.length >= lease.found.length + chunks.length, 'what was sealed is found');
      this.cache.release(found);
    }
    this.cache.release(lease);
    this.#seal = undefined;
  }

  #abort(): void {
    if (this.#seal === undefined) return;
    this.cache.abort(this.#seal.chunks);
    this.cache.release(this.#seal.lease);
    this.#seal = undefined;
  }

  /** Ends everything and takes all chunks away. */
  async end(): Promise<void> {
    this.#abort();
    while (this.held.length > 0) this.#release(0);
    await this.#resume();
    await this.#store.flushed();
    this.check();
    for (const key of [...this.#store.host.keys(), ...this.#below.keys()]) this.#store.remove(key);
    this.check();
    const { chunks, treeChunks } = this.cache.reading();
    assert.deepEqual({ chunks, treeChunks }, { chunks: 0, treeChunks: 0 }, 'no lost chunk remains');
    assert.equal(this.#store.usedBytes, 0);
  }

  check(): void {
    const { leases } = this.cache.audit();
    assert.equal(leases, this.held.length + (this.#seal === undefined ? 0 : 1));
    this.#store.host.audit();
    this.#below.audit();
  }
}

suite('the prefix cache', () => {
  const sizes = fc.record({
    host: fc.integer({ min: 1, max: 7 }),
    disk: fc.integer({ min: 1, max: 9 }),
    writePolicy: fc.constantFrom(...WRITE_POLICIES),
  });

  test('never serves wrong bytes, keeps its tree, and forgets lost chunks', async () => {
    await fc.assert(
      fc.asyncProperty(sizes, fc.array(call, { minLength: 30, maxLength: 60 }), async (size, calls) => {
        const harness = new Harness(size);
        for (const step of calls) {
          await harness.run(step);
          harness.check();
        }
        await harness.end();
      }),
      { numRuns: 1000 },
    );
  });
});
