/**
 * Any walk of puts, removals, waiting, evictions and restarts against a map: few ids, texts and tenants, so that equal
 * passages and replacements are common.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { Shelf } from './fixtures.js';

interface Model {
  readonly namespace: string;
  readonly id: string;
  readonly text: string;
  readonly expiresAtMs: number | undefined;
}

const namespace = fc.constantFrom('', 'tenant');
const id = fc.constantFrom('a', 'b', 'c');
const step = fc.oneof(
  fc.record({
    kind: fc.constant('put' as const),
    namespace,
    id,
    text: fc.constantFrom('x', 'y z', 'z z z'),
    ttlMs: fc.constantFrom(undefined, 1000, 2000),
    isPinned: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('remove' as const), namespace, id }),
  fc.record({ kind: fc.constant('wait' as const), ms: fc.constantFrom(1, 999, 1000) }),
  fc.record({ kind: fc.constant('turn' as const) }),
  fc.record({ kind: fc.constant('evict' as const) }),
  fc.record({ kind: fc.constant('restart' as const) }),
);

class Walk {
  readonly shelf = new Shelf({ limits: { documentsPerNamespaceMax: 3 } });
  readonly #model = new Map<string, Model>();

  async take(what: typeof step extends fc.Arbitrary<infer Step> ? Step : never): Promise<void> {
    const { shelf } = this;
    if (what.kind === 'put') {
      const { namespace: owner, id: name, text, ttlMs, isPinned } = what;
      shelf.put(name, text, { namespace: owner, ttlMs, isPinned });
      const expiresAtMs = ttlMs === undefined ? undefined : shelf.clock.nowMs + ttlMs;
      this.#model.set(`${owner} ${name}`, { namespace: owner, id: name, text, expiresAtMs });
    } else if (what.kind === 'remove') {
      const key = `${what.namespace} ${what.id}`;
      assert.equal(shelf.library.remove(what.namespace, what.id), this.#model.delete(key));
    } else if (what.kind === 'wait') {
      shelf.clock.nowMs += what.ms;
      for (const [key, { expiresAtMs }] of this.#model) {
        if (expiresAtMs !== undefined && expiresAtMs <= shelf.clock.nowMs) this.#model.delete(key);
      }
    } else if (what.kind === 'turn') await setImmediate();
    else if (what.kind === 'evict') shelf.passages.kept.clear();
    else await shelf.reopen();
    this.#check();
  }

  /** Once nothing is under way, KV is kept of no passage but those of documents. */
  async end(): Promise<void> {
    for (const { namespace: owner, id: name } of this.#model.values()) {
      assert.equal((await this.shelf.settled(name, owner))!.status, 'ready');
    }
    await this.shelf.reopen();
    this.#check();
    const live = new Set(
      [...this.#model.values()].map((each) => JSON.stringify([each.namespace, undefined, each.text])),
    );
    assert.deepEqual(
      [...this.shelf.passages.kept].filter((kept) => !live.has(kept)),
      [],
    );
  }

  #check(): void {
    const { library } = this.shelf;
    for (const owner of ['', 'tenant']) {
      const expected = [...this.#model.values()]
        .filter((each) => each.namespace === owner)
        .sort((a, b) => (a.id < b.id ? -1 : 1));
      const { documents } = library.list(owner, { limit: 100, after: undefined });
      assert.deepEqual(
        documents.map((each) => [each.id, each.expiresAtMs]),
        expected.map((each) => [each.id, each.expiresAtMs]),
      );
      for (const { id: name, text } of expected) assert.equal(library.find(owner, name)!.text, text);
    }
  }
}

test('a library holds what was put and not removed or expired, and KV of nothing else', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const walk = new Walk();
      try {
        for (const each of steps) await walk.take(each);
        await walk.end();
      } finally {
        await walk.shelf.dispose();
      }
    }),
    { numRuns: 60 },
  );
});
