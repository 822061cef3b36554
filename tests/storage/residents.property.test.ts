/** Residents against a plain list: random calls over few chunks in a small tree, with leases, pins, TTLs and jumps. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ChunkKey, type EvictReason, POLICY_NAMES, type PolicyName } from '#storage';
import { Residents } from '../../storage/residents.js';
import { ManualClock } from '../support/manual-clock.js';
import { chunk } from './chunk-store.contract.js';

/** Chunk i stands after chunk ⌊(i - 1) / 2⌋; chunk 0 at position 0. */
const TREE = [chunk(0)];
for (let i = 1; i < 8; i++) TREE.push(chunk(i, TREE[(i - 1) >> 1]));
const parentOf = (i: number): number | undefined => (i === 0 ? undefined : (i - 1) >> 1);
const indexOf = new Map(TREE.map(({ key }, i) => [key, i]));

const CAPACITY = 12;
const PIN_MAX = 6;

interface ModelChunk {
  readonly i: number;
  readonly bytes: number;
  readonly ttlMs: number | undefined;
  readonly priority: number;
  state: 'writing' | 'present' | 'condemned';
  leases: number;
  hits: number;
  usedAt: number;
  usedAtMs: number;
  pinTtlMs?: number;
  pinnedUntilMs?: number;
}

class Model {
  chunks: ModelChunk[] = [];
  readonly left: string[] = [];
  readonly freed: number[] = [];
  uses = 0;
  nowMs = 0;

  find(i: number): ModelChunk | undefined {
    const found = this.chunks.find((c) => c.i === i && c.state === 'present');
    if (found === undefined || !this.isExpired(found)) return found;
    this.leave(found, 'expired');
    return undefined;
  }

  any(i: number): ModelChunk | undefined {
    return this.chunks.find((c) => c.i === i);
  }

  isPinned(c: ModelChunk): boolean {
    return c.pinnedUntilMs !== undefined && c.pinnedUntilMs > this.nowMs;
  }

  isExpired(c: ModelChunk): boolean {
    const isHeld = c.leases > 0 || this.isPinned(c) || c.state !== 'present';
    return !isHeld && c.ttlMs !== undefined && this.nowMs - c.usedAtMs >= c.ttlMs;
  }

  sum(of: (c: ModelChunk) => boolean): number {
    return this.chunks.filter(of).reduce((bytes, c) => bytes + c.bytes, 0);
  }

  setClock(nowMs: number): void {
    this.nowMs = nowMs;
    for (const c of this.chunks) {
      c.usedAtMs = Math.min(c.usedAtMs, nowMs);
      if (c.pinTtlMs !== undefined)
        c.pinnedUntilMs = Math.min(c.pinnedUntilMs ?? Infinity, nowMs + c.pinTtlMs);
      if (!this.isPinned(c)) {
        delete c.pinTtlMs;
        delete c.pinnedUntilMs;
      }
    }
  }

  leave(c: ModelChunk, reason: EvictReason): void {
    this.left.push(`${c.i} ${reason}`);
    c.state = 'condemned';
    delete c.pinnedUntilMs;
    if (c.leases === 0) this.free(c);
  }

  free(c: ModelChunk): void {
    this.chunks = this.chunks.filter((other) => other !== c);
    this.freed.push(c.i);
  }

  victims(protectedChunk?: number): ModelChunk[] {
    const parents = new Set(this.chunks.filter((c) => c.state !== 'condemned').map((c) => parentOf(c.i)));
    return this.chunks
      .filter((c) => c.state === 'present' && c.leases === 0 && !this.isPinned(c))
      .filter((c) => !parents.has(c.i) && c.i !== protectedChunk)
      .sort((a, b) => a.priority - b.priority || a.usedAt - b.usedAt);
  }

  sweep(): void {
    for (const c of this.chunks.filter((each) => this.isExpired(each))) this.leave(c, 'expired');
  }

  makeRoom(bytes: number, protectedChunk?: number): boolean {
    this.sweep();
    while (this.sum(() => true) + bytes > CAPACITY) {
      const victim = this.victims(protectedChunk)[0];
      if (victim === undefined) return false;
      this.leave(victim, 'capacity');
    }
    return true;
  }
}

const index = fc.nat(TREE.length - 1);
const call = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('add' as const),
      i: index,
      bytes: fc.integer({ min: 1, max: 4 }),
      ttlMs: fc.constantFrom(undefined, undefined, 5),
      priority: fc.constantFrom(50, 50, 49),
    }),
  },
  ...(['commit', 'touch', 'lease', 'release'] as const).map((name) => ({
    weight: 6,
    arbitrary: fc.record({ do: fc.constant(name), i: index }),
  })),
  ...(['abort', 'remove', 'pin', 'unpin', 'get', 'makeRoom', 'expire'] as const).map((name) => ({
    weight: 2,
    arbitrary: fc.record({ do: fc.constant(name), i: index }),
  })),
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('clock' as const), i: fc.integer({ min: -9, max: 6 }) }),
  },
);
type Call = typeof call extends fc.Arbitrary<infer T> ? T : never;

class Pair {
  readonly model = new Model();
  readonly clock = new ManualClock(0);
  readonly left: string[] = [];
  readonly freed: number[] = [];
  readonly residents: Residents<number>;

  constructor(policy: PolicyName = 'lru') {
    this.residents = new Residents<number>({
      capacityBytes: CAPACITY,
      policy,
      clock: this.clock,
      onLeave: ({ data }, reason) => this.left.push(`${data} ${reason}`),
      onFree: ({ data }) => this.freed.push(data),
    });
  }

  run(step: Call): void {
    const { residents, model } = this;
    if (step.do === 'clock') {
      this.clock.nowMs += step.i;
      model.setClock(this.clock.nowMs);
      residents.makeRoom(0);
      model.makeRoom(0);
      return;
    }
    const { i } = step;
    const { key } = TREE[i]!;
    if (step.do === 'add') this.#add(step);
    else if (step.do === 'commit' && model.any(i)?.state === 'writing') {
      residents.commit(key);
      Object.assign(model.any(i)!, { state: 'present', usedAt: ++model.uses, usedAtMs: model.nowMs });
    } else if (step.do === 'abort' && model.any(i)?.state === 'writing') {
      residents.abort(key);
      model.free(model.any(i)!);
    } else if (step.do === 'touch') {
      const path: ChunkKey[] = [];
      for (let at: number | undefined = i; at !== undefined; at = parentOf(at)) path.push(TREE[at]!.key);
      residents.touch(path);
      for (const at of path) this.#use(indexOf.get(at)!);
    } else if (step.do === 'lease') {
      const found = model.find(i);
      assert.equal(residents.lease(key), found !== undefined);
      if (found !== undefined) found.leases++;
    } else if (step.do === 'release' && (model.any(i)?.leases ?? 0) > 0) {
      residents.release(key);
      const leased = model.any(i)!;
      leased.leases--;
      if (leased.leases === 0 && leased.state === 'condemned') model.free(leased);
    } else if (step.do === 'remove') {
      const found = model.find(i);
      assert.equal(residents.remove(key, 'deleted'), found !== undefined);
      if (found !== undefined) model.leave(found, 'deleted');
    } else if (step.do === 'pin') this.#pin(i);
    else if (step.do === 'unpin') {
      residents.unpin([key]);
      const found = model.find(i);
      delete found?.pinTtlMs;
      delete found?.pinnedUntilMs;
    } else if (step.do === 'get') assert.equal(residents.get(key)?.hits, model.find(i)?.hits);
    else if (step.do === 'makeRoom') assert.equal(residents.makeRoom(i), model.makeRoom(i));
    else if (step.do === 'expire') {
      residents.expire();
      model.sweep();
    }
  }

  #add({ i, bytes, ttlMs, priority }: Extract<Call, { do: 'add' }>): void {
    const { residents, model } = this;
    const { key, parent, namespace } = TREE[i]!;
    model.find(i);
    assert.equal(residents.isTaken(key), model.any(i) !== undefined);
    if (model.any(i) !== undefined) return;
    const retention = { priority, ...(ttlMs !== undefined && { ttlMs }) };
    const added = residents.add({ key, parent, namespace, bytes, data: i, retention });
    assert.equal(added !== undefined, model.makeRoom(bytes, parentOf(i)));
    if (added === undefined) return;
    const { nowMs } = model;
    const fresh = { state: 'writing' as const, leases: 0, hits: 0, usedAt: 0, usedAtMs: nowMs };
    model.chunks.push({ i, bytes, ttlMs, priority, ...fresh });
  }

  #use(i: number): void {
    const used = this.model.find(i);
    if (used === undefined) return;
    used.hits++;
    used.usedAt = ++this.model.uses;
    used.usedAtMs = this.model.nowMs;
    if (used.pinTtlMs !== undefined) used.pinnedUntilMs = this.model.nowMs + used.pinTtlMs;
  }

  #pin(i: number): void {
    const { residents, model } = this;
    const outcome = residents.pin([TREE[i]!.key], { ttlMs: 4 });
    const found = model.find(i);
    if (found === undefined) assert.equal(outcome, 'missing');
    else if (
      !model.isPinned(found) &&
      model.sum((c) => c.state === 'present' && model.isPinned(c)) + found.bytes > PIN_MAX
    )
      assert.equal(outcome, 'over budget');
    else {
      assert.equal(outcome, 'pinned');
      found.pinTtlMs = 4;
      found.pinnedUntilMs = model.nowMs + 4;
    }
  }

  check(): void {
    const { residents, model } = this;
    residents.audit();
    assert.deepEqual(sorted(this.left), sorted(model.left));
    assert.deepEqual(sorted(this.freed), sorted(model.freed));
    assert.equal(
      residents.usedBytes,
      model.sum(() => true),
    );
    assert.equal(
      residents.pinnedBytes,
      model.sum((c) => model.isPinned(c)),
    );
    assert.deepEqual(
      residents.victims(99).map((key) => indexOf.get(key)),
      model.victims().map((c) => c.i),
    );
    assert.equal(residents.count, model.chunks.length);
  }
}

/** What expires at one moment leaves in no particular order. */
const sorted = (list: readonly (string | number)[]): string[] => list.map(String).sort();

test('who stays and who goes is what a plain list says, and every counter equals a recount', () => {
  fc.assert(
    fc.property(fc.array(call, { maxLength: 80 }), (calls) => {
      const pair = new Pair();
      for (const step of calls) {
        pair.run(step);
        pair.check();
      }
    }),
    { numRuns: 1000 },
  );
});

test('what was in the tier before a restart is taken in, in any order, as what it was', () => {
  const history = fc.record({
    i: index,
    hits: fc.nat(3),
    usedAtMs: fc.integer({ min: -20, max: 20 }),
    pinMs: fc.option(fc.integer({ min: -5, max: 50 }), { nil: undefined }),
  });
  fc.assert(
    fc.property(fc.uniqueArray(history, { selector: ({ i }) => i }), (chunks) => {
      const { residents, left } = new Pair();
      residents.load(
        chunks.map(({ i, hits, usedAtMs, pinMs }) => ({
          chunk: { ...TREE[i]!, bytes: 2, data: i },
          history: {
            hits,
            createdAtMs: usedAtMs,
            usedAtMs,
            pinTtlMs: pinMs === undefined ? undefined : 4,
            pinnedUntilMs: pinMs,
          },
        })),
      );
      residents.audit();
      assert.equal(left.length, Math.max(0, chunks.length - CAPACITY / 2), 'only what is too much goes');
      for (const { i, hits, usedAtMs } of chunks) {
        const found = residents.get(TREE[i]!.key);
        if (found === undefined) continue;
        assert.equal(found.hits, hits);
        assert(found.usedAtMs === Math.min(usedAtMs, 0) && (found.pinnedUntilMs ?? 0) <= 4);
      }
      const used = residents.victims(99).map((key) => residents.get(key)!.usedAtMs);
      assert.deepEqual(
        used,
        [...used].sort((a, b) => a - b),
      );
    }),
    { numRuns: 2000 },
  );
});

/** Requests for the paths to these chunks: what is there is used, the rest comes. */
function ask(residents: Residents<number>, i: number): void {
  const path: number[] = [];
  for (let at: number | undefined = i; at !== undefined; at = parentOf(at)) path.push(at);
  const isHere = (at: number): boolean => residents.get(TREE[at]!.key) !== undefined;
  const found = path.filter(isHere).map((at) => TREE[at]!.key);
  residents.touch(found);
  for (const key of found) residents.lease(key);
  for (const at of path.toReversed()) {
    if (isHere(at)) continue;
    const { key } = TREE[at]!;
    if (residents.add({ ...TREE[at]!, bytes: 1 + (at % 3), data: at }) === undefined) break;
    residents.commit(key);
  }
  for (const key of found) residents.release(key);
}

test('whatever the policy, what is there is whole prefixes and within the capacity', () => {
  const policies = fc.constantFrom(...POLICY_NAMES);
  fc.assert(
    fc.property(policies, fc.array(index, { minLength: 50, maxLength: 300 }), (policy, requests) => {
      const { residents } = new Pair(policy);
      for (const i of requests) {
        ask(residents, i);
        residents.audit();
        for (const { parent } of residents.all())
          assert(parent === undefined || residents.get(parent) !== undefined);
        assert.equal(new Set(residents.victims(99)).size, residents.victims(99).length);
      }
    }),
    { numRuns: 150 },
  );
});
