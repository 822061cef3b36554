/**
 * Which prefixes and documents spare most: the tokens of each that requests reused, since the start.
 *
 * A prefix counts by the nodes of the radix tree, so that what many prompts begin with is told from what follows: all
 * nodes together have the exact tokens that were reused, as far as the tiers below the device know them. Bounded: see
 * heavy-hitters.ts.
 */

import type { ReusedNode } from './course.js';
import { type HeavyHitter, HeavyHitters } from './heavy-hitters.js';
import type { RequestRecord } from './statistics.js';

/** Prefixes, and documents, that are told apart; some 600 bytes each. */
export const SAVERS_MAX = 1000;

interface Owned {
  /** The namespace of the tenant. */
  readonly owner: string;
  /** Its name in statistics. */
  readonly tenant: string;
}

export type SavingPrefix = Owned & Omit<ReusedNode, 'key'>;
export type SavingDocument = Owned & { readonly id: string };

export class Savings {
  readonly #now: () => number;
  readonly #prefixes = new HeavyHitters<SavingPrefix>({ keysMax: SAVERS_MAX });
  readonly #documents = new HeavyHitters<SavingDocument>({ keysMax: SAVERS_MAX });

  /** @param now milliseconds since the epoch */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** A request ended. */
  add({ owner, tenant, course }: RequestRecord): void {
    if (course === undefined) return;
    const atMs = this.#now();
    for (const { key, ...node } of course.nodes)
      this.#prefixes.add(key, node.tokens, { atMs, detail: { owner, tenant, ...node } });
    for (const { id, tokens } of course.documents) {
      if (tokens > 0) this.#documents.add(`${owner} ${id}`, tokens, { atMs, detail: { owner, tenant, id } });
    }
  }

  /** Keeps no text of a tenant's prompts any more. */
  forgetTexts(owner: string): void {
    this.#prefixes.retell((prefix) => (prefix.owner === owner ? { ...prefix, excerpt: undefined } : prefix));
  }

  /** Those of one tenant; of all where `owner` is undefined. */
  prefixes(count: number, owner: string | undefined): HeavyHitter<SavingPrefix>[] {
    return this.#prefixes.top(count, (prefix) => owner === undefined || prefix.owner === owner);
  }

  documents(count: number, owner: string | undefined): HeavyHitter<SavingDocument>[] {
    return this.#documents.top(count, (document) => owner === undefined || document.owner === owner);
  }
}
