/**
 * One chunk of a tier, as `Residents` keeps it: who it is, what holds it, and when it was used.
 *
 * Times are those of the tier's clock. `Resident` is what a store may read; only `Residents` changes an `Entry`.
 */
import assert from 'node:assert/strict';
import { OrderPlace } from './eviction-order.js';
import type { ChunkKey } from './key.js';
import type { RankedChunk } from './policy/policy.js';
import type { Ticket } from './ranking.js';
import type { ResidentClass } from './resident-class.js';
import type { ResidentOwner } from './resident-owner.js';
import type { Retention } from './store.js';

/** What a chunk has been through, for a store that remembers it over a restart. */
export interface ResidentHistory {
  /** Uses so far. */
  readonly hits: number;
  readonly createdAtMs: number;
  readonly usedAtMs: number;
  /** How long a pin lasts from each use on; undefined: not pinned. */
  readonly pinTtlMs: number | undefined;
  readonly pinnedUntilMs: number | undefined;
}

/** A chunk in a tier. `data` is the store's own. */
export interface Resident<Data> extends ResidentHistory {
  readonly key: ChunkKey;
  readonly parent: ChunkKey | undefined;
  readonly bytes: number;
  readonly data: Data;
  readonly ttlMs: number | undefined;
  readonly priority: number;
  readonly leases: number;
}

/** A chunk on its way into a tier. */
export interface Newcomer<Data> {
  readonly key: ChunkKey;
  readonly parent: ChunkKey | undefined;
  /** Tells its class and its owner. */
  readonly namespace: string;
  readonly bytes: number;
  readonly data: Data;
  readonly retention?: Retention | undefined;
}

const DEFAULT_PRIORITY = 50;

/** As it was given, defaults filled in. */
export function retentionOf({
  ttlMs,
  priority,
}: Resident<unknown>): Required<Pick<Retention, 'priority'>> & Retention {
  return { priority, ...(ttlMs !== undefined && { ttlMs }) };
}

export class Entry<Data> implements Resident<Data>, RankedChunk {
  readonly key: ChunkKey;
  readonly parent: ChunkKey | undefined;
  readonly bytes: number;
  readonly data: Data;
  ttlMs: number | undefined;
  priority = DEFAULT_PRIORITY;
  readonly class: ResidentClass<Data>;
  readonly owner: ResidentOwner<Data>;
  createdAtMs: number;
  usedAtMs: number;
  hits = 0;
  pinTtlMs: number | undefined = undefined;
  pinnedUntilMs: number | undefined = undefined;
  leases = 0;
  /** `condemned`: it left, but its bytes are leased. */
  state: 'writing' | 'present' | 'condemned' = 'writing';
  /** Chunks right after it in the tier, those being written included. */
  children = 0;
  depth = 0;
  lastUse = 0;
  /** Its place among the chunks of its class that may be evicted, and among those of its owner, where it has a quota. */
  readonly inClass: OrderPlace<Data> = new OrderPlace(this);
  inOwner: OrderPlace<Data> | undefined = undefined;
  /** When to see whether its TTL ran out; made when it has one. */
  expiry: Ticket<Entry<Data>> | undefined = undefined;
  /** When to see whether its pin ran out; made when it is pinned. */
  pinEnd: Ticket<Entry<Data>> | undefined = undefined;

  constructor(
    chunk: Newcomer<Data>,
    kin: { readonly class: ResidentClass<Data>; readonly owner: ResidentOwner<Data> },
    nowMs: number,
  ) {
    this.class = kin.class;
    this.owner = kin.owner;
    this.key = chunk.key;
    this.parent = chunk.parent;
    this.bytes = chunk.bytes;
    this.data = chunk.data;
    this.retain(chunk.retention ?? {});
    this.createdAtMs = nowMs;
    this.usedAtMs = nowMs;
  }

  /** Asserts sensible values. */
  retain({ ttlMs, priority = DEFAULT_PRIORITY }: Retention): void {
    assert(ttlMs === undefined || ttlMs > 0);
    assert(Number.isInteger(priority) && priority >= 0 && priority <= 100);
    this.ttlMs = ttlMs;
    this.priority = priority;
  }

  get mayBeEvicted(): boolean {
    return this.state === 'present' && this.children === 0 && this.leases === 0 && !this.isPinned;
  }

  get isPinned(): boolean {
    return this.pinnedUntilMs !== undefined;
  }

  /** Whether its TTL ran out. Nothing in use or pinned expires. */
  isExpired(nowMs: number): boolean {
    if (this.ttlMs === undefined || this.leases > 0 || this.isPinned) return false;
    return this.state === 'present' && nowMs - this.usedAtMs >= this.ttlMs;
  }
}
