/** RadixTree against RadixModel: random calls over two symbols and tiny chunks, so that splits are everywhere. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ChunkId, chunkId, type Lease, RadixTree } from '#radix';
import { RadixModel } from './model.js';

const namespace = fc.constantFrom('a', 'b');
const prompt = fc.array(fc.nat(1), { maxLength: 14 });
const call = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('match' as const), namespace, prompt }) },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('insert' as const), namespace, prompt, own: fc.boolean() }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('append' as const), namespace, prompt, own: fc.array(fc.nat(1)) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('lease' as const), namespace, prompt }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('release' as const), pick: fc.nat() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('remove' as const), pick: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('evict' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('clear' as const), namespace: fc.option(namespace) }) },
);
type Call = typeof call extends fc.Arbitrary<infer T> ? T : never;

class Pair {
  readonly tree: RadixTree;
  readonly model: RadixModel;
  readonly leases: Lease[] = [];
  #nextId = 0;

  constructor(chunkTokens: number) {
    this.tree = new RadixTree({ chunkTokens });
    this.model = new RadixModel(chunkTokens);
  }

  run(step: Call): void {
    switch (step.do) {
      case 'match':
        this.match(step.namespace, step.prompt);
        break;
      case 'lease': {
        const lease = this.tree.lease(this.match(step.namespace, step.prompt));
        this.model.pin(lease.chunks);
        this.leases.push(lease);
        break;
      }
      case 'insert':
        this.#insert(step.namespace, step.prompt, step.own);
        break;
      case 'append':
        this.#append(step.namespace, step.prompt, step.own);
        break;
      case 'release': {
        const [lease] = this.leases.splice(step.pick % Math.max(1, this.leases.length), 1);
        if (lease === undefined) break;
        this.tree.release(lease);
        this.model.unpin(lease.chunks);
        break;
      }
      case 'remove':
        this.#remove(step.pick);
        break;
      case 'evict': {
        const victim = this.tree.victim();
        assert.equal(victim, this.model.evictionOrder()[0]);
        if (victim === undefined) break;
        this.tree.remove(victim);
        this.model.remove(victim);
        break;
      }
      case 'clear': {
        const going = this.model
          .evictionOrder()
          .filter((id) => step.namespace === null || this.model.get(id).namespace === step.namespace);
        assert.deepEqual(this.tree.clear(step.namespace ?? undefined), going);
        for (const id of going) this.model.remove(id);
        break;
      }
    }
  }

  match(ns: string, tokens: number[]) {
    assert.deepEqual(this.tree.ownChunks(ns, Int32Array.from(tokens)), this.model.ownChunks(ns, tokens));
    const expected = this.model.match(ns, tokens);
    const match = this.tree.match(ns, Int32Array.from(tokens));
    assert.deepEqual(match.chunks, expected.chunks);
    assert.equal(match.tokens, expected.chunks.length * this.tree.chunkTokens);
    assert.equal(match.partial?.rows ?? 0, expected.rows);
    if (match.partial) assert(expected.nextIds.includes(match.partial.chunk));
    this.model.touch(match.partial ? [...match.chunks, match.partial.chunk] : match.chunks);
    return match;
  }

  /** With `own`, as the request that made the path inserts it again: with the ids that stand. Else all ids are new. */
  #insert(ns: string, tokens: number[], own: boolean): void {
    const count = Math.floor(tokens.length / this.tree.chunkTokens);
    const standing = this.model.match(ns, tokens).chunks;
    const given: ChunkId[] = [];
    for (let i = 0; i < count; i++) given.push(chunkId((own ? standing[i] : undefined) ?? this.#nextId++));
    const result = this.tree.insert(ns, Int32Array.from(tokens), given);
    assert.deepEqual(result, this.model.insert(ns, tokens, given));
  }

  /** One chunk after the whole chunks that a prompt matches; its tokens are `own`, filled up. */
  #append(ns: string, above: number[], own: number[]): void {
    const parent = this.match(ns, above).chunks.at(-1);
    const tokens = Array.from({ length: this.tree.chunkTokens }, (_, i) => own[i] ?? 0);
    const id = chunkId(this.#nextId++);
    const stands = this.tree.append({ namespace: ns, parent, tokens: Int32Array.from(tokens), id });
    assert.equal(stands, this.model.append(ns, parent, tokens, id));
  }

  #remove(pick: number): void {
    const chunk = this.model.chunks[pick % Math.max(1, this.model.chunks.length)];
    if (chunk === undefined) return;
    if (this.model.isRemovable(chunk.id)) {
      this.tree.remove(chunkId(chunk.id));
      this.model.remove(chunk.id);
    } else {
      assert.throws(() => this.tree.remove(chunkId(chunk.id)), { name: 'AssertionError' });
    }
  }

  check(): void {
    this.tree.audit();
    assert.deepEqual([...this.tree.evictionOrder()], this.model.evictionOrder());
    const stats = this.tree.stats();
    assert.equal(stats.chunks, this.model.chunks.length);
    assert.equal(stats.leases, this.leases.length);
    assert.equal(stats.namespaces, new Set(this.model.chunks.map((c) => c.namespace)).size);
  }
}

test('the tree does what a list of prefixes does, and every invariant holds after every call', () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 4 }), fc.array(call, { maxLength: 40 }), (chunkTokens, calls) => {
      const pair = new Pair(chunkTokens);
      for (const step of calls) {
        pair.run(step);
        pair.check();
      }
      for (const { id, namespace: ns, prefix } of pair.model.chunks) {
        assert.equal(pair.match(ns, [...prefix]).chunks.at(-1), id);
      }
    }),
    { numRuns: 600 },
  );
});
