/**
 * Who is in a tier, and who goes next: the chunks of one tier with what keeps each of them there.
 *
 * Invariants (recounted by `audit`):
 * - usedBytes = Σ bytes of the chunks present, being written and condemned ≤ capacityBytes.
 * - Only a present chunk without a chunk after it, a lease or a pin is evicted: of these one of the lowest priority,
 *   and among those the policy's lowest rank.
 * - pinnedBytes = Σ bytes of pinned chunks ≤ the pins' share of the capacity, so that pins can't wedge the tier.
 * - A chunk that can be found leaves once (`onLeave`); the bytes of every chunk are freed once (`onFree`).
 *
 *   writing ─commit→ present ─leaves→ gone, or condemned while it is leased (it cannot be found, but its key is taken)
 *
 * A chunk may be removed before those after it: they stay, unreachable for who walks the prefix, until they are
 * evicted or the chunk is written again. Knows no bytes, slots or files: a store keeps those in `data`.
 */
import assert from 'node:assert/strict';
import type { Clock } from './clock.js';
import { Deadlines } from './deadlines.js';
import type { ChunkKey } from './key.js';
import { createPolicy, DEFAULT_POLICY, type PolicyName } from './policy/index.js';
import type { Policy } from './policy/policy.js';
import { Ranking } from './ranking.js';
import { Entry, type Newcomer, type Resident, type ResidentHistory } from './resident.js';
import { auditResidents } from './residents-audit.js';
import type { EvictReason, PinOutcome } from './store.js';

/** Expired chunks that one call sweeps at most, so that none takes long. */
const SWEEP_CHUNKS = 64;

/** Chunks that one step of a load takes in. */
const LOAD_STEP_CHUNKS = 1000;

/** A chunk that was in the tier before a restart. */
export interface LoadedResident<Data> {
  readonly chunk: Newcomer<Data>;
  readonly history: ResidentHistory;
}

export interface ResidentsOptions<Data> {
  readonly capacityBytes: number;
  readonly clock: Clock;
  /** Default `DEFAULT_POLICY`. */
  readonly policy?: PolicyName | undefined;
  /** The share of the capacity that may be pinned, 0 to 1; default 0.5. */
  readonly pinShare?: number | undefined;
  /** A chunk can no longer be found. Must not call back. */
  readonly onLeave: (chunk: Resident<Data>, reason: EvictReason) => void;
  /** Nobody uses a chunk's bytes any more. Before `onLeave` where both happen at once. Must not call back. */
  readonly onFree: (chunk: Resident<Data>) => void;
}

/** By the number of the lane. */
export type Lanes<Data> = readonly [Ranking<Entry<Data>>, Ranking<Entry<Data>>];

export class Residents<Data> {
  readonly capacityBytes: number;
  readonly #pinBytesMax: number;
  readonly #policy: Policy;
  readonly #deadlines: Deadlines<Data>;
  readonly #onLeave: ResidentsOptions<Data>['onLeave'];
  readonly #onFree: ResidentsOptions<Data>['onFree'];
  readonly #entries = new Map<ChunkKey, Entry<Data>>();
  /** Chunks after one that cannot be found: their number by its key. */
  readonly #orphans = new Map<ChunkKey, number>();
  /** The chunks that may be evicted, by priority and lane of the policy. */
  readonly #leaves = new Map<number, Lanes<Data>>();
  /** The keys of `#leaves`, ascending. */
  #priorities: number[] = [];
  /** Additions and uses. */
  #uses = 0;
  #usedBytes = 0;
  #pinnedBytes = 0;

  constructor(options: ResidentsOptions<Data>) {
    const { capacityBytes, clock, policy = DEFAULT_POLICY, pinShare = 0.5 } = options;
    assert(capacityBytes >= 0 && pinShare >= 0 && pinShare <= 1);
    this.capacityBytes = capacityBytes;
    this.#pinBytesMax = capacityBytes * pinShare;
    this.#policy = createPolicy(policy, {
      capacityBytes,
      moved: (chunk) => this.#rank(this.#entries.get(chunk.key)!),
      movedAll: () => this.#rankAll(),
    });
    this.#deadlines = new Deadlines(clock);
    this.#onLeave = options.onLeave;
    this.#onFree = options.onFree;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get pinnedBytes(): number {
    this.#endPins(this.#deadlines.now());
    return this.#pinnedBytes;
  }

  /** Chunks, those being written and condemned included. */
  get count(): number {
    return this.#entries.size;
  }

  /** A chunk that is present. */
  get(key: ChunkKey): Resident<Data> | undefined {
    return this.#find(key);
  }

  /** A chunk that is being written. */
  getWriting(key: ChunkKey): Resident<Data> | undefined {
    const entry = this.#entries.get(key);
    return entry?.state === 'writing' ? entry : undefined;
  }

  /** Whether `add` would be a mistake: the chunk is present, being written, or condemned. */
  isTaken(key: ChunkKey): boolean {
    return this.#find(key) !== undefined || this.#entries.has(key);
  }

  /** Everything but what is condemned, in no particular order. */
  *all(): Generator<Resident<Data>, void, undefined> {
    for (const entry of this.#entries.values()) if (entry.state !== 'condemned') yield entry;
  }

  /**
   * Takes in a chunk that is being written, once room is made; its parent stays. End with `commit` or `abort`.
   * Undefined when there is no room. Asserts that its key is not taken.
   */
  add(chunk: Newcomer<Data>): Resident<Data> | undefined {
    assert(!this.isTaken(chunk.key), 'a key is taken once');
    const { ttlMs, priority = 0 } = chunk.retention ?? {};
    assert(ttlMs === undefined || ttlMs > 0);
    assert(Number.isInteger(priority) && priority >= 0 && priority <= 100);
    if (!this.makeRoomAfter(chunk.parent, chunk.bytes)) return undefined;
    this.#countChild(chunk.parent, 1);
    return this.#enter(new Entry(chunk, this.#deadlines.now()));
  }

  /** The chunk is written: it can be found, as the most recently used. */
  commit(key: ChunkKey): void {
    const entry = this.#writing(key);
    entry.state = 'present';
    entry.usedAtMs = this.#deadlines.now();
    this.#deadlines.watch(entry);
    this.#welcome(entry);
  }

  /** The chunk was not written. */
  abort(key: ChunkKey): void {
    this.#exit(this.#writing(key));
  }

  /**
   * Takes in what was in the tier before a restart, in any order, as present; then evicts what is too much. Times in
   * the future count as now, and pins beyond their share, or that keep too much, are dropped. O(n log n).
   */
  load(chunks: Iterable<LoadedResident<Data>>): void {
    for (const _ of this.loadInSteps(chunks));
  }

  /** `load` in steps of bounded length; nothing else is asked of the tier before the last one. */
  *loadInSteps(chunks: Iterable<LoadedResident<Data>>): Generator<void, void, undefined> {
    const nowMs = this.#deadlines.now();
    const waiting = new Map([...chunks].map((loaded) => [loaded.chunk.key, loaded]));
    const entered: Entry<Data>[] = [];
    for (const key of waiting.keys()) {
      // Parents first, for the depth.
      const path = [];
      for (let next = waiting.get(key); next !== undefined; next = waiting.get(next.chunk.parent!)) {
        path.push(next);
        waiting.delete(next.chunk.key);
      }
      for (const { chunk, history } of path.toReversed()) {
        assert(!this.#entries.has(chunk.key), 'a key is taken once');
        this.#countChild(chunk.parent, 1);
        const entry = this.#enter(new Entry(chunk, nowMs));
        entry.state = 'present';
        entry.hits = history.hits;
        entry.createdAtMs = Math.min(history.createdAtMs, nowMs);
        entry.usedAtMs = Math.min(history.usedAtMs, nowMs);
        this.#deadlines.watch(entry);
        const pinMs = Math.min((history.pinnedUntilMs ?? 0) - nowMs, history.pinTtlMs ?? 0);
        if (pinMs > 0 && this.#pinnedBytes + entry.bytes <= this.#pinBytesMax) {
          this.#pinnedBytes += entry.bytes;
          this.#deadlines.pin(entry, pinMs, nowMs);
          entry.pinTtlMs = history.pinTtlMs;
        }
        entered.push(entry);
        if (entered.length % LOAD_STEP_CHUNKS === 0) yield;
      }
    }
    entered.sort((a, b) => a.usedAtMs - b.usedAtMs);
    for (const [i, entry] of entered.entries()) {
      this.#welcome(entry);
      if (i % LOAD_STEP_CHUNKS === 0) yield;
    }
    if (this.makeRoom(0)) return;
    // Pins hold what is before them too, which may be more than the tier takes now: then they go.
    for (const entry of entered) this.#unpin(entry);
    this.makeRoom(0);
  }

  /** Evicts until `bytes` more fit; false when what may not be evicted leaves too little room. */
  makeRoom(bytes: number): boolean {
    this.expire();
    while (this.#usedBytes + bytes > this.capacityBytes) {
      const leaf = this.#lowest();
      if (leaf === undefined) return false;
      if (this.#policy.spare?.(leaf)) this.#rank(leaf);
      else this.#leave(leaf, 'capacity');
    }
    return true;
  }

  /** `makeRoom` for a chunk after `parent`, which stays. */
  makeRoomAfter(parent: ChunkKey | undefined, bytes: number): boolean {
    this.#countChild(parent, 1);
    const isRoom = this.makeRoom(bytes);
    this.#countChild(parent, -1);
    return isRoom;
  }

  /** Up to `count` chunks that may be evicted, as things stand, in the order in which they would be. */
  victims(count: number): ChunkKey[] {
    this.#endPins(this.#deadlines.now());
    const keys: ChunkKey[] = [];
    for (const ranking of this.#rankings()) {
      for (const { item } of ranking.ascending()) {
        if (keys.length === count) return keys;
        keys.push(item.key);
      }
    }
    return keys;
  }

  /** Lets chunks go whose TTL ran out, a bounded number a call, and all pins that did. */
  expire(): void {
    const nowMs = this.#deadlines.now();
    this.#endPins(nowMs);
    for (let swept = 0; swept < SWEEP_CHUNKS; swept++) {
      const entry = this.#deadlines.expired(nowMs, SWEEP_CHUNKS);
      if (entry === undefined) return;
      this.#leave(entry, 'expired');
    }
  }

  /** See `ChunkStore.touch`. */
  touch(keys: readonly ChunkKey[]): void {
    const nowMs = this.#deadlines.now();
    for (const key of keys) {
      const entry = this.#find(key);
      if (entry === undefined) continue;
      entry.hits++;
      entry.lastUse = ++this.#uses;
      this.#deadlines.renew(entry, nowMs);
      this.#policy.used?.(entry);
      this.#rank(entry);
    }
  }

  /** Whether it is there, and now leased. */
  lease(key: ChunkKey): boolean {
    const entry = this.#find(key);
    if (entry === undefined) return false;
    entry.leases++;
    this.#rank(entry);
    return true;
  }

  /** Ends a lease; the last one of a condemned chunk frees it. */
  release(key: ChunkKey): void {
    const entry = this.#entries.get(key);
    assert(entry !== undefined && entry.leases > 0, 'only a leased chunk is released');
    entry.leases--;
    if (entry.state !== 'condemned') this.#rank(entry);
    else if (entry.leases === 0) this.#free(entry);
  }

  /** See `ChunkStore.pin`. */
  pin(keys: readonly ChunkKey[], { ttlMs }: { readonly ttlMs: number }): PinOutcome {
    assert(ttlMs > 0);
    const nowMs = this.#deadlines.now();
    this.#endPins(nowMs);
    const entries = new Set<Entry<Data>>();
    for (const key of keys) {
      const entry = this.#find(key);
      if (entry === undefined) return 'missing';
      entries.add(entry);
    }
    const fresh = [...entries].filter((entry) => !entry.isPinned);
    const bytes = this.#pinnedBytes + fresh.reduce((sum, entry) => sum + entry.bytes, 0);
    if (fresh.length > 0 && bytes > this.#pinBytesMax) return 'over budget';
    this.#pinnedBytes = bytes;
    for (const entry of entries) {
      this.#deadlines.pin(entry, ttlMs, nowMs);
      this.#rank(entry);
    }
    return 'pinned';
  }

  unpin(keys: readonly ChunkKey[]): void {
    for (const key of keys) {
      const entry = this.#find(key);
      if (entry !== undefined) this.#unpin(entry);
    }
  }

  /** Makes a chunk unfindable, whatever holds it. Whether it was there. */
  remove(key: ChunkKey, reason: EvictReason): boolean {
    const entry = this.#find(key);
    if (entry !== undefined) this.#leave(entry, reason);
    return entry !== undefined;
  }

  /** Lets every present chunk go, children before their parents. */
  clear(reason: EvictReason): void {
    const present = [...this.#entries.values()].filter((entry) => entry.state === 'present');
    for (const entry of present.sort((a, b) => b.depth - a.depth)) this.#leave(entry, reason);
  }

  /** Recounts everything and throws an `AssertionError` on a broken invariant. O(chunks): for tests and idle times. */
  audit(): void {
    auditResidents({
      entries: this.#entries,
      orphans: this.#orphans,
      leaves: this.#leaves,
      usedBytes: this.#usedBytes,
      capacityBytes: this.capacityBytes,
      pinnedBytes: this.#pinnedBytes,
      pinBytesMax: this.#pinBytesMax,
    });
  }

  /** A present chunk; one whose TTL ran out leaves here. */
  #find(key: ChunkKey): Entry<Data> | undefined {
    const entry = this.#entries.get(key);
    if (entry?.state !== 'present') return undefined;
    if (entry.ttlMs === undefined) return entry;
    const nowMs = this.#deadlines.now();
    this.#endPins(nowMs);
    if (!entry.isExpired(nowMs)) return entry;
    this.#leave(entry, 'expired');
    return undefined;
  }

  #writing(key: ChunkKey): Entry<Data> {
    const entry = this.#entries.get(key);
    assert(entry?.state === 'writing', 'only a chunk being written is committed or aborted');
    return entry;
  }

  #standing(key: ChunkKey | undefined): Entry<Data> | undefined {
    const entry = key === undefined ? undefined : this.#entries.get(key);
    return entry?.state === 'condemned' ? undefined : entry;
  }

  #lowest(): Entry<Data> | undefined {
    for (const { first } of this.#rankings()) if (first !== undefined) return first.item;
    return undefined;
  }

  /** In the order in which they give chunks up. */
  *#rankings(): Generator<Ranking<Entry<Data>>, void, undefined> {
    const [first, second] = (this.#policy.firstLane?.() ?? 0) === 0 ? ([0, 1] as const) : ([1, 0] as const);
    for (const priority of this.#priorities) {
      const lanes = this.#leaves.get(priority)!;
      yield lanes[first];
      yield lanes[second];
    }
  }

  /** The policy hears of a present chunk. */
  #welcome(entry: Entry<Data>): void {
    entry.lastUse = ++this.#uses;
    this.#policy.added?.(entry);
    this.#rank(entry);
  }

  /** Its parent counts it already. */
  #enter(entry: Entry<Data>): Entry<Data> {
    entry.depth = (this.#standing(entry.parent)?.depth ?? -1) + 1;
    entry.children = this.#orphans.get(entry.key) ?? 0;
    this.#orphans.delete(entry.key);
    this.#entries.set(entry.key, entry);
    this.#usedBytes += entry.bytes;
    return entry;
  }

  #leave(entry: Entry<Data>, reason: EvictReason): void {
    this.#unpin(entry);
    this.#policy.left?.(entry, reason === 'capacity');
    this.#exit(entry);
    this.#onLeave(entry, reason);
  }

  /** Takes a chunk from among those that stand, and its bytes too unless they are leased. */
  #exit(entry: Entry<Data>): void {
    this.#deadlines.forget(entry);
    this.#countChild(entry.parent, -1);
    if (entry.children > 0) this.#orphans.set(entry.key, entry.children);
    entry.children = 0;
    entry.state = 'condemned';
    this.#rank(entry);
    if (entry.leases === 0) this.#free(entry);
  }

  #free(entry: Entry<Data>): void {
    this.#entries.delete(entry.key);
    this.#usedBytes -= entry.bytes;
    this.#onFree(entry);
  }

  #countChild(parent: ChunkKey | undefined, change: 1 | -1): void {
    if (parent === undefined) return;
    const entry = this.#standing(parent);
    if (entry === undefined) {
      const orphans = (this.#orphans.get(parent) ?? 0) + change;
      if (orphans > 0) this.#orphans.set(parent, orphans);
      else this.#orphans.delete(parent);
      return;
    }
    entry.children += change;
    this.#rank(entry);
  }

  #endPins(nowMs: number): void {
    for (;;) {
      const entry = this.#deadlines.endedPin(nowMs);
      if (entry === undefined) return;
      this.#unpin(entry);
    }
  }

  #unpin(entry: Entry<Data>): void {
    if (!entry.isPinned) return;
    this.#deadlines.unpin(entry);
    this.#pinnedBytes -= entry.bytes;
    this.#rank(entry);
  }

  /** Puts a chunk among those that may be evicted, or takes it from there. */
  #rank(entry: Entry<Data>): void {
    const leaves = entry.mayBeEvicted
      ? this.#lanesOf(entry.priority)[this.#policy.lane?.(entry) ?? 0]
      : undefined;
    if (entry.leaves !== leaves) entry.leaves?.delete(entry.leaf);
    entry.leaves = leaves;
    leaves?.set(entry.leaf, this.#policy.rank(entry));
  }

  #rankAll(): void {
    for (const ranking of this.#rankings()) ranking.revalue((entry) => this.#policy.rank(entry));
  }

  #lanesOf(priority: number): Lanes<Data> {
    let lanes = this.#leaves.get(priority);
    if (lanes === undefined) {
      lanes = [new Ranking(), new Ranking()];
      this.#leaves.set(priority, lanes);
      this.#priorities = [...this.#leaves.keys()].sort((a, b) => a - b);
    }
    return lanes;
  }
}
