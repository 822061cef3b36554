/**
 * Who is in a tier, and who goes next: the chunks of one tier with what keeps each of them there.
 *
 * Invariants (recounted by `audit`):
 * - usedBytes = Σ bytes of the chunks present, being written and condemned ≤ capacityBytes.
 * - Only a present chunk without a chunk after it, a lease or a pin is evicted: of the class that has to give way one
 *   of the lowest priority, and among those the policy's lowest rank.
 * - A class that takes at most its share (see shares.ts) loses no chunk to another.
 * - An owner takes at most its quota (see resident-owner.ts), and loses no chunk to the quota of another.
 * - pinnedBytes = Σ bytes of pinned chunks ≤ the pins' share of each class's share, so that pins can't wedge it.
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
import { DEFAULT_POLICY, type PolicyName } from './policy/index.js';
import { Entry, type Newcomer, type Resident, type ResidentHistory } from './resident.js';
import type { ResidentClass } from './resident-class.js';
import { ResidentClasses } from './resident-classes.js';
import { type OwnerHolding, type ResidentOwner, ResidentOwners } from './resident-owner.js';
import { auditResidents } from './residents-audit.js';
import { type ClassHolding, type Shares, UNDIVIDED } from './shares.js';
import { type EvictReason, isEviction, type PinOutcome, type Retention } from './store.js';

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
  /** The share of the capacity, and of each class's share of it, that may be pinned, 0 to 1; default 0.5. */
  readonly pinShare?: number | undefined;
  /** Default: all chunks are of one class. */
  readonly shares?: Shares | undefined;
  /** Whose the chunks of a namespace are, for quotas; default: each namespace is an owner. */
  readonly ownerOf?: ((namespace: string) => string) | undefined;
  /** A chunk can no longer be found. Must not call back. */
  readonly onLeave: (chunk: Resident<Data>, reason: EvictReason) => void;
  /** Nobody uses a chunk's bytes any more. Before `onLeave` where both happen at once. Must not call back. */
  readonly onFree: (chunk: Resident<Data>) => void;
}

export class Residents<Data> {
  readonly capacityBytes: number;
  readonly #classes: ResidentClasses<Data>;
  readonly #owners: ResidentOwners<Data>;
  readonly #deadlines: Deadlines<Data>;
  readonly #onLeave: ResidentsOptions<Data>['onLeave'];
  readonly #onFree: ResidentsOptions<Data>['onFree'];
  readonly #entries = new Map<ChunkKey, Entry<Data>>();
  /** Chunks after one that cannot be found: their number by its key. */
  readonly #orphans = new Map<ChunkKey, number>();
  /** Additions and uses. */
  #uses = 0;

  constructor(options: ResidentsOptions<Data>) {
    const { capacityBytes, clock, policy = DEFAULT_POLICY, pinShare = 0.5, shares = UNDIVIDED } = options;
    assert(capacityBytes >= 0 && pinShare >= 0 && pinShare <= 1);
    this.capacityBytes = capacityBytes;
    this.#owners = new ResidentOwners(options.ownerOf ?? ((namespace) => namespace));
    this.#classes = new ResidentClasses({
      capacityBytes,
      shares,
      policy,
      pinShare,
      entryOf: (key) => this.#entries.get(key)!,
      owners: this.#owners,
    });
    this.#deadlines = new Deadlines(clock);
    this.#onLeave = options.onLeave;
    this.#onFree = options.onFree;
  }

  get usedBytes(): number {
    return this.#classes.usedBytes;
  }

  get pinnedBytes(): number {
    this.#endPins(this.#deadlines.now());
    return this.#classes.pinnedBytes;
  }

  /** Chunks, those being written and condemned included. */
  get count(): number {
    return this.#entries.size;
  }

  /** What each class takes. */
  classes(): Record<string, ClassHolding> {
    return this.#classes.holdings();
  }

  /** What each owner takes, and may take. */
  owners(): ReadonlyMap<string, OwnerHolding> {
    return this.#owners.holdings();
  }

  /**
   * Says how many bytes each owner may take; who is not named may take as many as there are. Who takes more gives up its
   * own chunks, now or when they are no longer held. O(chunks) when an owner gets its first quota.
   */
  setQuotas(quotas: ReadonlyMap<string, number>): void {
    const fresh = this.#owners.set(quotas);
    if (fresh.size > 0) {
      for (const entry of this.#entries.values()) if (fresh.has(entry.owner)) entry.class.rank(entry);
    }
    this.expire();
  }

  /** A chunk that is present. */
  get(key: ChunkKey): Resident<Data> | undefined {
    return this.#find(key);
  }

  /** The time that the pin of a present chunk is renewed for by each use; undefined when it is not pinned. */
  pinTtlMs(key: ChunkKey): number | undefined {
    this.#endPins(this.#deadlines.now());
    return this.#find(key)?.pinTtlMs;
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
    if (!this.makeRoomFor(chunk)) return undefined;
    this.#countChild(chunk.parent, 1);
    return this.#enter(chunk, this.#deadlines.now());
  }

  /**
   * The chunk is written: it can be found, as the most recently used. `isUse`: its coming counts as a use, since the
   * request that it came for will not count one.
   */
  commit(key: ChunkKey, { isUse = true }: { readonly isUse?: boolean } = {}): void {
    const entry = this.#writing(key);
    entry.state = 'present';
    entry.usedAtMs = this.#deadlines.now();
    this.#deadlines.watch(entry);
    this.#welcome(entry, isUse);
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
        const entry = this.#enter(chunk, nowMs);
        entry.state = 'present';
        entry.hits = history.hits;
        entry.createdAtMs = Math.min(history.createdAtMs, nowMs);
        entry.usedAtMs = Math.min(history.usedAtMs, nowMs);
        this.#deadlines.watch(entry);
        const pinMs = Math.min((history.pinnedUntilMs ?? 0) - nowMs, history.pinTtlMs ?? 0);
        if (pinMs > 0 && this.#classes.mayPin([entry])) {
          this.#classes.countPinned(entry, 1);
          this.#deadlines.pin(entry, pinMs, nowMs);
          entry.pinTtlMs = history.pinTtlMs;
        }
        entered.push(entry);
        if (entered.length % LOAD_STEP_CHUNKS === 0) yield;
      }
    }
    this.#owners.noteOver();
    entered.sort((a, b) => a.usedAtMs - b.usedAtMs);
    for (const [i, entry] of entered.entries()) {
      this.#welcome(entry, true);
      if (i % LOAD_STEP_CHUNKS === 0) yield;
    }
    if (this.makeRoom(0)) return;
    // Pins hold what is before them too, which may be more than the tier takes now: then they go.
    for (const entry of entered) this.#unpin(entry);
    this.makeRoom(0);
  }

  /** Evicts until `bytes` more fit, of whatever class; false when what may not be evicted leaves too little room. */
  makeRoom(bytes: number): boolean {
    this.expire();
    return this.#shrink(this.capacityBytes - bytes, this.capacityBytes - bytes, undefined);
  }

  /**
   * Evicts until a chunk fits whose parent stays, with the capacity less by `shortageBytes` for now. A class that takes
   * more than its share gives way, else the chunk's own: so a chunk is refused (false) when all that its class has is
   * held, and no other has more than its share.
   */
  makeRoomFor(
    chunk: Pick<Newcomer<Data>, 'parent' | 'namespace' | 'bytes'>,
    { shortageBytes = 0 }: { readonly shortageBytes?: number } = {},
  ): boolean {
    this.#countChild(chunk.parent, 1);
    this.expire();
    const capacityBytes = this.capacityBytes - shortageBytes;
    const ownClass = this.#classes.of(chunk.namespace);
    const owner = this.#owners.of(chunk.namespace);
    const isRoom =
      this.#shrinkOwner(owner, chunk.bytes, ownClass) &&
      this.#shrink(capacityBytes - chunk.bytes, capacityBytes, ownClass);
    this.#owners.forget(owner);
    this.#countChild(chunk.parent, -1);
    return isRoom;
  }

  /** Up to `count` chunks of each class that may be evicted, as things stand, in the order in which they would be. */
  victims(count: number): ChunkKey[] {
    this.#endPins(this.#deadlines.now());
    const keys: ChunkKey[] = [];
    for (const each of this.#classes.giving(this.capacityBytes)) {
      let left = count;
      for (const { key } of each.inOrder()) {
        if (left-- === 0) break;
        keys.push(key);
      }
    }
    return keys;
  }

  /** Lets chunks go whose TTL ran out, a bounded number a call, all pins that did, and what is beyond a quota. */
  expire(): void {
    const nowMs = this.#deadlines.now();
    this.#endPins(nowMs);
    for (let swept = 0; swept < SWEEP_CHUNKS; swept++) {
      const entry = this.#deadlines.expired(nowMs, SWEEP_CHUNKS);
      if (entry === undefined) break;
      this.#leave(entry, 'expired');
    }
    for (const owner of this.#owners.over) if (this.#shrinkOwner(owner, 0)) this.#owners.over.delete(owner);
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
      entry.class.used(entry);
    }
  }

  /** See `ChunkStore.retain`. */
  retain(keys: readonly ChunkKey[], retention: Retention): void {
    const nowMs = this.#deadlines.now();
    for (const key of keys) {
      const entry = this.#find(key);
      if (entry === undefined) continue;
      entry.retain(retention);
      entry.usedAtMs = nowMs;
      this.#deadlines.watch(entry);
      entry.class.rank(entry);
    }
  }

  /** Whether it is there, and now leased. */
  lease(key: ChunkKey): boolean {
    const entry = this.#find(key);
    if (entry === undefined) return false;
    entry.leases++;
    entry.class.rank(entry);
    return true;
  }

  /** Ends a lease; the last one of a condemned chunk frees it. */
  release(key: ChunkKey): void {
    const entry = this.#entries.get(key);
    assert(entry !== undefined && entry.leases > 0, 'only a leased chunk is released');
    entry.leases--;
    if (entry.state !== 'condemned') entry.class.rank(entry);
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
    if (!this.#classes.mayPin(fresh)) return 'over budget';
    for (const entry of fresh) this.#classes.countPinned(entry, 1);
    for (const entry of entries) {
      this.#deadlines.pin(entry, ttlMs, nowMs);
      entry.class.rank(entry);
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
      classes: this.#classes,
      owners: this.#owners,
      capacityBytes: this.capacityBytes,
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

  /** Evicts until chunks take at most `bytes`, for shares of `capacityBytes`. */
  #shrink(bytes: number, capacityBytes: number, newcomer: ResidentClass<Data> | undefined): boolean {
    while (this.#classes.usedBytes > bytes) {
      const leaf = this.#victim(capacityBytes, newcomer);
      if (leaf === undefined) return false;
      this.#leave(leaf, 'capacity');
    }
    return true;
  }

  /** Evicts chunks of an owner until `bytes` more fit its quota; false when what is held leaves too little room. */
  #shrinkOwner(owner: ResidentOwner<Data>, bytes: number, newcomer?: ResidentClass<Data>): boolean {
    const { quotaBytes } = owner;
    if (quotaBytes === undefined) return true;
    if (bytes > quotaBytes) return false;
    while (owner.usedBytes + bytes > quotaBytes) {
      let leaf: Entry<Data> | undefined;
      for (const each of this.#classes.giving(quotaBytes, newcomer, owner)) {
        leaf ??= each.next(owner.orderOf(each));
      }
      if (leaf === undefined) return false;
      this.#leave(leaf, 'quota');
    }
    return true;
  }

  #victim(capacityBytes: number, newcomer: ResidentClass<Data> | undefined): Entry<Data> | undefined {
    for (const each of this.#classes.giving(capacityBytes, newcomer)) {
      const leaf = each.next();
      if (leaf !== undefined) return leaf;
    }
    return undefined;
  }

  /** The policy hears of a present chunk. */
  #welcome(entry: Entry<Data>, isUse: boolean): void {
    entry.lastUse = ++this.#uses;
    entry.class.added(entry, isUse);
  }

  /** Its parent counts it already. */
  #enter(chunk: Newcomer<Data>, nowMs: number): Entry<Data> {
    const kin = { class: this.#classes.of(chunk.namespace), owner: this.#owners.of(chunk.namespace) };
    const entry = new Entry(chunk, kin, nowMs);
    entry.depth = (this.#standing(entry.parent)?.depth ?? -1) + 1;
    entry.children = this.#orphans.get(entry.key) ?? 0;
    this.#orphans.delete(entry.key);
    this.#entries.set(entry.key, entry);
    this.#classes.count(entry, 1);
    return entry;
  }

  #leave(entry: Entry<Data>, reason: EvictReason): void {
    this.#unpin(entry);
    entry.class.left(entry, isEviction(reason));
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
    entry.class.rank(entry);
    if (entry.leases === 0) this.#free(entry);
  }

  #free(entry: Entry<Data>): void {
    this.#entries.delete(entry.key);
    this.#classes.count(entry, -1);
    this.#owners.forget(entry.owner);
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
    entry.class.rank(entry);
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
    this.#classes.countPinned(entry, -1);
    entry.class.rank(entry);
  }
}
