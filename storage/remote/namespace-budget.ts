/**
 * How much the namespaces of a remote tier have written, counted in the tier itself, by all nodes together.
 *
 * Everything there has the same TTL, counted from when it was written, so what a namespace holds is at most what it
 * wrote within the last TTL. That is a hash for each namespace: the number of the slice of time (`SLICES` a TTL) →
 * bytes written in it. A write is reserved before: its bytes are added, the sum is looked at, and taken back when it is
 * over. So nodes that write at the same time never exceed the budget together. What is counted and not there (a node
 * ended between reserving and writing, the server evicted it) is counted until its slice is over, at most a TTL and a
 * slice: the error is towards writing less. A server that lost everything lost the counts, too. One that evicts by
 * itself (`allkeys-lru`) may evict a hash; then the budget begins anew.
 *
 * Clocks of nodes may differ by less than a slice. Knows no chunks.
 */
import { createHash } from 'node:crypto';
import type { Clock } from '../clock.js';
import type { RemoteLink } from './remote-link.js';

/** Of a TTL. */
const SLICES = 16;

export interface Reservation {
  readonly owner: string;
  readonly bytes: number;
  readonly slice: number;
}

export class NamespaceBudget {
  readonly #clock: Clock;
  readonly #ttlMs: number;
  readonly #budgetBytes: number;
  readonly #keyPrefix: string;

  /** `budgetBytes` 0: there is no limit, and nothing is counted. */
  constructor(options: {
    readonly clock: Clock;
    readonly ttlMs: number;
    readonly budgetBytes: number;
    readonly keyPrefix: string;
  }) {
    this.#clock = options.clock;
    this.#ttlMs = options.ttlMs;
    this.#budgetBytes = options.budgetBytes;
    this.#keyPrefix = options.keyPrefix;
  }

  /**
   * Reserves room for values of one namespace, in order; undefined for each that does not fit. One round trip, and
   * another one where something does not fit.
   *
   * @throws RemoteError
   */
  async reserve(
    link: RemoteLink,
    owner: string,
    sizes: readonly number[],
  ): Promise<(Reservation | undefined)[]> {
    const slice = Math.floor((this.#clock.now() * SLICES) / this.#ttlMs);
    const reservations = sizes.map((bytes) => ({ owner, bytes, slice }));
    if (this.#budgetBytes === 0) return reservations;
    const key = this.#keyOf(owner);
    const keptMs = this.#keptMs;
    const [slices, ...sums] = await Promise.all([
      link.numbers(key),
      ...sizes.map((bytes) => link.add(key, String(slice), bytes, keptMs)),
    ]);
    let others = 0;
    const over: string[] = [];
    for (const [name, bytes] of slices) {
      const at = Number(name);
      if (at === slice) continue;
      if (at < slice - SLICES) over.push(name);
      else others += bytes;
    }
    const isIn = sums.map((sum) => others + sum <= this.#budgetBytes);
    const refused = reservations.filter((_, i) => !isIn[i]);
    if (over.length > 0) await link.dropNumbers(key, over);
    if (refused.length > 0) await this.giveBack(link, refused);
    return reservations.map((reservation, i) => (isIn[i] ? reservation : undefined));
  }

  /** What was reserved and not written. @throws RemoteError */
  async giveBack(link: RemoteLink, reservations: readonly Reservation[]): Promise<void> {
    if (this.#budgetBytes === 0) return;
    await Promise.all(
      reservations.map(({ owner, bytes, slice }) =>
        link.add(this.#keyOf(owner), String(slice), -bytes, this.#keptMs),
      ),
    );
  }

  get #keptMs(): number {
    return Math.ceil(this.#ttlMs * (1 + 2 / SLICES));
  }

  /** Of an owner, whose name does not show. */
  #keyOf(owner: string): string {
    const hash = createHash('sha256').update('radixkv-budget').update(owner).digest('hex');
    return `${this.#keyPrefix}budget:${hash.slice(0, 32)}`;
  }
}
