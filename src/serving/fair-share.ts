/**
 * Who is next among tenants: the one that had least of the engine, by a counter of milliseconds for each (the virtual
 * token counter of Sheng et al., Fairness in Serving Large Language Models, OSDI 2024, with measured time for tokens).
 *
 * A tenant that comes back is lifted to the least counter of those present: what it left unused it can't save up.
 */
import assert from 'node:assert/strict';
import { LRUCache } from 'lru-cache';

/** Tenants that are away and whose counters are remembered, so that leaving and coming back clears no debt. */
const REMEMBERED_TENANTS = 10_000;

interface Present {
  requests: number;
  servedMs: number;
}

export class FairShare {
  readonly #present = new Map<string, Present>();
  readonly #away = new LRUCache<string, number>({ max: REMEMBERED_TENANTS });
  /** The counter of the tenant that left last. */
  #lastMs = 0;

  /** A tenant has one more request waiting or under way. */
  came(tenant: string): void {
    const present = this.#present.get(tenant);
    if (present !== undefined) {
      present.requests++;
      return;
    }
    const others = [...this.#present.values()].map(({ servedMs }) => servedMs);
    const levelMs = others.length > 0 ? Math.min(...others) : this.#lastMs;
    this.#present.set(tenant, { requests: 1, servedMs: Math.max(levelMs, this.#away.get(tenant) ?? 0) });
  }

  /** One of its requests ended. */
  left(tenant: string): void {
    const present = this.#of(tenant);
    if (--present.requests > 0) return;
    this.#present.delete(tenant);
    this.#away.set(tenant, present.servedMs);
    this.#lastMs = present.servedMs;
  }

  /** The engine worked `ms` for a tenant; negative: what was charged too much. */
  charge(tenant: string, ms: number): void {
    this.#of(tenant).servedMs += ms;
  }

  /** What a tenant that is present had, to be compared with others. */
  servedMs(tenant: string): number {
    return this.#of(tenant).servedMs;
  }

  #of(tenant: string): Present {
    const present = this.#present.get(tenant);
    assert(present !== undefined, 'a tenant is present while it has a request');
    return present;
  }
}
