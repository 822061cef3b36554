/** HostTier against a map of prefixes: random calls over two symbols, chunks of two tokens and few slots. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { createChecksum, kvLayout, slotBytes } from '#storage';
import { type HostLease, HostTier, type ReservedChunk } from '../../src/cache/host-tier.js';

const layout = kvLayout({ layers: 1, kvHeads: 1, headDim: 2, chunkTokens: 2, dtype: 'float32' });
const checksum = await createChecksum();

const namespace = fc.constantFrom('a', 'a', 'a', 'b');
const symbol = fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constant(1) });
const tokens = fc.array(symbol, { minLength: 1, maxLength: 12 }).map((list) => Int32Array.from(list));
const call = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('acquire' as const), namespace, tokens }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('release' as const), pick: fc.nat() }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('corrupt' as const), pick: fc.nat(), chunk: fc.nat() }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('reserve' as const), namespace, tokens }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('lose' as const), namespace, tokens, chunk: fc.nat() }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('commit' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('abort' as const) }) },
);
type Call = typeof call extends fc.Arbitrary<infer T> ? T : never;

interface Held {
  readonly namespace: string;
  readonly tokens: Int32Array;
  readonly lease: HostLease;
}

/** The bytes that a chunk of a prefix must have: they name its namespace and every token up to its end. */
function contentOf(ns: string, prefix: Int32Array): Uint8Array {
  const bytes = new Uint8Array(layout.chunkBytes);
  bytes.set(Buffer.from(`${ns}${prefix.join('')}`).subarray(0, layout.chunkBytes));
  return bytes;
}

class Harness {
  readonly tier: HostTier;
  readonly held: Held[] = [];
  readonly #condemned = new Set<number>();
  /** Whole prefixes that were ever sealed: only these may be found. */
  readonly #sealed = new Set<string>();
  #seal: (Held & { readonly chunks: readonly ReservedChunk[] }) | undefined;

  constructor(chunks: number) {
    const capacityBytes = chunks * layout.chunkBytes;
    this.tier = new HostTier({ layout, capacityBytes, fingerprint: 'test', checksum });
  }

  run(step: Call): void {
    if (step.do === 'acquire') this.#acquire(step.namespace, step.tokens);
    else if (step.do === 'release') this.#release(step.pick);
    else if (step.do === 'corrupt') this.#corrupt(step.pick, step.chunk);
    else if (step.do === 'lose') {
      this.#acquire(step.namespace, step.tokens);
      this.#corrupt(this.held.length - 1, step.chunk);
      this.#release(this.held.length - 1);
    } else if (step.do === 'reserve') this.#reserve(step.namespace, step.tokens);
    else if (step.do === 'commit') this.#commit();
    else this.#abort();
  }

  #acquire(ns: string, prefix: Int32Array): void {
    const lease = this.tier.acquire(ns, prefix, 'row');
    this.held.push({ namespace: ns, tokens: prefix, lease });
    assert(lease.tokens <= prefix.length);
    for (const [i, { slot, rows, checksum: sum }] of lease.found.entries()) {
      const start = i * layout.chunkTokens;
      assert(rows === layout.chunkTokens || i === lease.found.length - 1, 'only the last chunk is cut');
      const bytes = slotBytes(this.tier.slab, slot);
      // A bit that was flipped is for the reader to find, by this checksum.
      if (checksum(bytes) !== sum) continue;
      const rest = Buffer.from(bytes).toString('latin1').replaceAll('\0', '');
      const own = `${ns}${prefix.subarray(0, start + rows).join('')}`;
      assert(rest.startsWith(own), `${own} is read from ${rest}`);
      assert(this.#sealed.has(rest));
    }
  }

  #release(pick: number): void {
    const [going] = this.held.splice(pick % Math.max(1, this.held.length), 1);
    if (going !== undefined) this.tier.release(going.lease);
  }

  /** Flips a bit of a chunk that someone has leased, who then notices. */
  #corrupt(pick: number, index: number): void {
    const holder = this.held[pick % Math.max(1, this.held.length)];
    const chunk = holder?.lease.found[index % Math.max(1, holder.lease.found.length)];
    if (holder === undefined || chunk === undefined) return;
    slotBytes(this.tier.slab, chunk.slot)[0]! ^= 0x80;
    this.tier.condemn(chunk);
    this.#condemned.add(chunk.id);
    const again = this.tier.acquire(holder.namespace, holder.tokens, 'row');
    assert(!again.found.some(({ id }) => id === chunk.id), 'a lost chunk ends every match');
    this.tier.release(again);
  }

  #reserve(ns: string, prefix: Int32Array): void {
    if (this.#seal !== undefined) return;
    const whole = prefix.subarray(0, prefix.length - (prefix.length % layout.chunkTokens));
    const lease = this.tier.acquire(ns, whole, 'whole chunks');
    const chunks = this.tier.reserve(ns, whole, lease);
    for (const [i, { index }] of chunks.entries()) assert.equal(index, lease.found.length + i);
    this.#seal = { namespace: ns, tokens: whole, lease, chunks };
  }

  #commit(): void {
    if (this.#seal === undefined) return;
    const { namespace: ns, tokens: prefix, lease, chunks } = this.#seal;
    const checksums = chunks.map(({ slot, index }) => {
      const own = prefix.subarray(0, (index + 1) * layout.chunkTokens);
      this.#sealed.add(`${ns}${own.join('')}`);
      const bytes = slotBytes(this.tier.slab, slot);
      bytes.set(contentOf(ns, own));
      return checksum(bytes);
    });
    this.tier.commit(ns, prefix, { lease, chunks, checksums });
    for (const { id } of chunks) this.#condemned.delete(id);
    if (!lease.found.some(({ id }) => this.#condemned.has(id))) {
      const found = this.tier.acquire(ns, prefix, 'whole chunks');
      assert(found.found.length >= lease.found.length + chunks.length, 'what was sealed is found');
      this.tier.release(found);
    }
    this.tier.release(lease);
    this.#seal = undefined;
  }

  #abort(): void {
    if (this.#seal === undefined) return;
    this.tier.abort(this.#seal.chunks);
    this.tier.release(this.#seal.lease);
    this.#seal = undefined;
  }

  /** Ends everything, and fills the tier with one other prefix. */
  end(slots: number): void {
    this.#abort();
    while (this.held.length > 0) this.#release(0);
    this.check();
    this.#reserve('c', new Int32Array(slots * layout.chunkTokens));
    this.#commit();
    this.check();
    const { chunks, treeChunks } = this.tier.reading();
    assert.deepEqual({ chunks, treeChunks }, { chunks: slots, treeChunks: slots }, 'no lost chunk remains');
  }

  check(): void {
    const { leases } = this.tier.audit();
    assert.equal(leases, this.held.length + (this.#seal === undefined ? 0 : 1));
    const { bytes, capacityBytes } = this.tier.reading();
    assert(bytes <= capacityBytes);
  }
}

suite('the host tier', () => {
  test('never serves wrong bytes, keeps its budget and its tree, and forgets lost chunks', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 7 }),
        fc.array(call, { minLength: 30, maxLength: 60 }),
        (slots, calls) => {
          const harness = new Harness(slots);
          for (const step of calls) {
            harness.run(step);
            harness.check();
          }
          harness.end(slots);
        },
      ),
      { numRuns: 1000 },
    );
  });

  test('a lost chunk above present ones is sealed again, and then all of them are found', () => {
    const harness = new Harness(4);
    const prefix = Int32Array.from([0, 1, 0, 1, 1, 1]);
    const seal = () => {
      harness.run({ do: 'reserve', namespace: 'a', tokens: prefix });
      harness.run({ do: 'commit' });
    };
    seal();
    const lease = harness.tier.acquire('a', prefix, 'whole chunks');
    harness.tier.condemn(lease.found[0]!);
    harness.tier.release(lease);
    assert.equal(harness.tier.acquire('a', prefix, 'whole chunks').tokens, 0);
    seal();
    assert.equal(harness.tier.acquire('a', prefix, 'whole chunks').tokens, 6);
  });

  test('lost chunks of which the upper one was lost first leave before what is above them', () => {
    const harness = new Harness(3);
    const prefix = Int32Array.from([0, 0, 1, 1, 0, 0]);
    harness.run({ do: 'reserve', namespace: 'a', tokens: prefix });
    harness.run({ do: 'commit' });
    const lease = harness.tier.acquire('a', prefix, 'whole chunks');
    harness.tier.condemn(lease.found[1]!);
    harness.tier.condemn(lease.found[2]!);
    harness.tier.release(lease);
    assert.equal(harness.tier.reading().treeChunks, 1);
  });
});
