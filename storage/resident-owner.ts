/**
 * Whose the chunks of a tier are: what each owner takes of it, and for who has a quota which of its chunks go first.
 *
 * Invariant: an owner takes at most its quota, unless it was lowered below what is held (leased, pinned, or before such
 * a chunk); then nothing comes in until it fits. A quota evicts chunks of its owner only. An owner is known as long as
 * it has chunks or a quota.
 */
import { EvictionOrder, OrderPlace, type Standing } from './eviction-order.js';
import type { Entry } from './resident.js';
import type { ResidentClass } from './resident-class.js';

/** What an owner takes in a tier. */
export interface OwnerHolding {
  readonly bytes: number;
  /** Those being written, and those that left but are leased, included. */
  readonly chunks: number;
  readonly quotaBytes: number | undefined;
}

export class ResidentOwner<Data> {
  readonly name: string;
  quotaBytes: number | undefined = undefined;
  count = 0;
  usedBytes = 0;
  pinnedBytes = 0;
  readonly #bytesOf = new Map<ResidentClass<Data>, number>();
  /** Of the chunks that may be evicted, by class; none without a quota. */
  readonly #orders = new Map<ResidentClass<Data>, EvictionOrder<Data>>();

  constructor(name: string) {
    this.name = name;
  }

  /** What it takes in a class. */
  bytesOf(ownClass: ResidentClass<Data>): number {
    return this.#bytesOf.get(ownClass) ?? 0;
  }

  /** A chunk came, or its bytes are free. */
  counted(entry: Entry<Data>, change: 1 | -1): void {
    this.count += change;
    this.usedBytes += change * entry.bytes;
    this.#bytesOf.set(entry.class, this.bytesOf(entry.class) + change * entry.bytes);
  }

  /** Undefined without a quota. */
  orderOf(ownClass: ResidentClass<Data>): EvictionOrder<Data> | undefined {
    if (this.quotaBytes === undefined) return undefined;
    let order = this.#orders.get(ownClass);
    if (order === undefined) {
      order = new EvictionOrder();
      this.#orders.set(ownClass, order);
    }
    return order;
  }

  /** As its class places it; see `ResidentClass.rank`. */
  place(entry: Entry<Data>, standing: Standing | undefined): void {
    const order = this.orderOf(entry.class);
    if (order === undefined) return;
    entry.inOwner ??= new OrderPlace(entry);
    order.place(entry.inOwner, standing);
  }

  /** Has no quota any more. */
  lift(): void {
    this.quotaBytes = undefined;
    this.#orders.clear();
  }
}

/** By name. */
export class ResidentOwners<Data> {
  readonly #ownerOf: (namespace: string) => string;
  readonly #owners = new Map<string, ResidentOwner<Data>>();
  /** Those that took more than their quota when it was set, or when they were loaded. */
  readonly over = new Set<ResidentOwner<Data>>();

  /** @param ownerOf whose the chunks of a namespace are: always the same */
  constructor(ownerOf: (namespace: string) => string) {
    this.#ownerOf = ownerOf;
  }

  /** The owner of the chunks of a namespace. */
  of(namespace: string): ResidentOwner<Data> {
    return this.#named(this.#ownerOf(namespace));
  }

  *[Symbol.iterator](): Generator<ResidentOwner<Data>, void, undefined> {
    yield* this.#owners.values();
  }

  /** Sets all quotas: who is not named has none. @returns those that had none before, whose chunks are in no order yet */
  set(quotas: ReadonlyMap<string, number>): ReadonlySet<ResidentOwner<Data>> {
    for (const owner of this.#owners.values()) {
      if (owner.quotaBytes !== undefined && !quotas.has(owner.name)) owner.lift();
      this.forget(owner);
    }
    const fresh = new Set<ResidentOwner<Data>>();
    for (const [name, bytes] of quotas) {
      const owner = this.#named(name);
      if (owner.quotaBytes === undefined) fresh.add(owner);
      owner.quotaBytes = bytes;
    }
    this.noteOver();
    return fresh;
  }

  noteOver(): void {
    this.over.clear();
    for (const owner of this.#owners.values()) {
      if (owner.quotaBytes !== undefined && owner.usedBytes > owner.quotaBytes) this.over.add(owner);
    }
  }

  /** An owner may have nothing left here. */
  forget(owner: ResidentOwner<Data>): void {
    if (owner.count === 0 && owner.quotaBytes === undefined) this.#owners.delete(owner.name);
  }

  holdings(): Map<string, OwnerHolding> {
    return new Map(
      Array.from(this.#owners.values(), ({ name, usedBytes: bytes, count: chunks, quotaBytes }) => {
        return [name, { bytes, chunks, quotaBytes }];
      }),
    );
  }

  #named(name: string): ResidentOwner<Data> {
    let owner = this.#owners.get(name);
    if (owner === undefined) {
      owner = new ResidentOwner(name);
      this.#owners.set(name, owner);
    }
    return owner;
  }
}
