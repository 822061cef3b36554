/**
 * Chunks that may be evicted, in the order in which they would be: of the lowest priority first, within it lane by lane
 * as the policy says, within a lane the lowest rank.
 *
 * A chunk stands in several orders at most once each: in its class's, and in that of its owner where it has a quota.
 */
import type { Lane } from './policy/policy.js';
import { Ranking, Ticket } from './ranking.js';
import type { Entry } from './resident.js';

/** Where a chunk stands in an order; only the order changes it. */
export class OrderPlace<Data> {
  readonly ticket: Ticket<Entry<Data>>;
  ranking: Ranking<Entry<Data>> | undefined = undefined;

  constructor(entry: Entry<Data>) {
    this.ticket = new Ticket(entry);
  }
}

/** What decides when a chunk goes. */
export interface Standing {
  readonly priority: number;
  readonly lane: Lane;
  readonly rank: number;
}

/** By the number of the lane. */
type Lanes<Data> = readonly [Ranking<Entry<Data>>, Ranking<Entry<Data>>];

export class EvictionOrder<Data> {
  readonly #lanes = new Map<number, Lanes<Data>>();
  /** The keys of `#lanes`, ascending. */
  #priorities: number[] = [];

  /** Puts a chunk where it belongs now; undefined: nowhere, since it may not be evicted. */
  place(place: OrderPlace<Data>, standing: Standing | undefined): void {
    const ranking = standing && this.#lanesOf(standing.priority)[standing.lane];
    if (place.ranking !== ranking) place.ranking?.delete(place.ticket);
    place.ranking = ranking;
    if (standing !== undefined) ranking!.set(place.ticket, standing.rank);
  }

  /** In the order in which they give chunks up. */
  *rankings(firstLane: Lane): Generator<Ranking<Entry<Data>>, void, undefined> {
    for (const priority of this.#priorities) {
      const lanes = this.#lanes.get(priority)!;
      yield lanes[firstLane];
      yield lanes[firstLane === 0 ? 1 : 0];
    }
  }

  first(firstLane: Lane): Entry<Data> | undefined {
    for (const { first } of this.rankings(firstLane)) if (first !== undefined) return first.item;
    return undefined;
  }

  #lanesOf(priority: number): Lanes<Data> {
    let lanes = this.#lanes.get(priority);
    if (lanes === undefined) {
      lanes = [new Ranking(), new Ranking()];
      this.#lanes.set(priority, lanes);
      this.#priorities = [...this.#lanes.keys()].sort((a, b) => a - b);
    }
    return lanes;
  }
}
