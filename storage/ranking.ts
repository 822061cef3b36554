/**
 * Items in the order of a number each has, lowest first: a binary heap that knows where each item stands, so that an
 * item can be moved and taken out in O(log n).
 *
 * An item is ranked by its ticket, which is in one ranking at most. Items of equal value go in no particular order.
 * Knows nothing of chunks.
 */
import assert from 'node:assert/strict';
import FlatQueue from 'flatqueue';

/** An item's place in a ranking. Only the ranking changes it. */
export class Ticket<T> {
  readonly item: T;
  value = 0;
  /** Undefined: in no ranking. */
  position: number | undefined = undefined;

  constructor(item: T) {
    this.item = item;
  }
}

export class Ranking<T> {
  readonly #heap: Ticket<T>[] = [];

  get size(): number {
    return this.#heap.length;
  }

  /** The ticket with the lowest value. */
  get first(): Ticket<T> | undefined {
    return this.#heap[0];
  }

  /** Puts a ticket in, or moves it, to where `value` belongs. */
  set(ticket: Ticket<T>, value: number): void {
    assert(!Number.isNaN(value));
    ticket.value = value;
    if (ticket.position === undefined) this.#heap.push(ticket);
    this.#sink(ticket, this.#rise(ticket, ticket.position ?? this.#heap.length - 1));
  }

  /** Takes a ticket out; nothing happens when it is in no ranking. */
  delete(ticket: Ticket<T>): void {
    const { position } = ticket;
    if (position === undefined) return;
    assert(this.#heap[position] === ticket, 'a ticket is in one ranking at most');
    ticket.position = undefined;
    const last = this.#heap.pop()!;
    if (last !== ticket) this.#sink(last, this.#rise(last, position));
  }

  /** Gives every item a new value. O(n). */
  revalue(rankOf: (item: T) => number): void {
    for (const ticket of this.#heap) ticket.value = rankOf(ticket.item);
    for (let position = (this.#heap.length >> 1) - 1; position >= 0; position--)
      this.#sink(this.#heap[position]!, position);
  }

  /** All tickets, lowest value first; the ranking must not change meanwhile. O(log n) each, none in advance. */
  *ascending(): Generator<Ticket<T>, void, undefined> {
    const frontier = new FlatQueue();
    for (let position: number | undefined = 0; position !== undefined; position = frontier.pop()) {
      const ticket = this.#heap[position];
      if (ticket === undefined) continue;
      for (const below of [2 * position + 1, 2 * position + 2]) {
        if (below < this.#heap.length) frontier.push(below, this.#heap[below]!.value);
      }
      yield ticket;
    }
  }

  /** Throws an `AssertionError` when the order is broken. */
  audit(): void {
    for (const [position, ticket] of this.#heap.entries()) {
      assert.equal(ticket.position, position);
      assert(position === 0 || this.#heap[(position - 1) >> 1]!.value <= ticket.value);
    }
  }

  /** Lets a ticket rise from a vacant position; where it now stands. */
  #rise(ticket: Ticket<T>, from: number): number {
    let position = from;
    while (position > 0) {
      const above = this.#heap[(position - 1) >> 1]!;
      if (above.value <= ticket.value) break;
      const next = above.position!;
      this.#place(above, position);
      position = next;
    }
    this.#place(ticket, position);
    return position;
  }

  #sink(ticket: Ticket<T>, from: number): void {
    let position = from;
    for (;;) {
      const left = this.#heap[2 * position + 1];
      const right = this.#heap[2 * position + 2];
      const below = right !== undefined && right.value < left!.value ? right : left;
      if (below === undefined || below.value >= ticket.value) break;
      const next = below.position!;
      this.#place(below, position);
      position = next;
    }
    this.#place(ticket, position);
  }

  #place(ticket: Ticket<T>, position: number): void {
    this.#heap[position] = ticket;
    ticket.position = position;
  }
}
