/**
 * When the TTLs and pins of a tier's chunks run out.
 *
 * A deadline is looked up when it may have passed, not moved at each use: a chunk is due when its clock may have run
 * out, and then either it has, or it is put back to when it may be next. The clock may jump: backwards it leaves no
 * chunk more time than its TTL or pin gives, forwards it only ends them early. Decides nothing about a chunk that is
 * due.
 */
import type { Clock } from './clock.js';
import { Ranking, Ticket } from './ranking.js';
import type { Entry } from './resident.js';

export class Deadlines<Data> {
  readonly #clock: Clock;
  readonly #expiries = new Ranking<Entry<Data>>();
  readonly #pinEnds = new Ranking<Entry<Data>>();
  #latestMs = -Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The time, after what a jump back changes is put right: O(chunks with a TTL or pin) then. */
  now(): number {
    const nowMs = this.#clock.now();
    if (nowMs < this.#latestMs) this.#rewind(nowMs);
    this.#latestMs = nowMs;
    return nowMs;
  }

  /** Watches the TTL that a chunk has got, or no longer has. */
  watch(entry: Entry<Data>): void {
    if (entry.ttlMs === undefined) {
      this.#unwatch(entry);
      return;
    }
    entry.expiry ??= new Ticket(entry);
    this.#expiries.set(entry.expiry, entry.usedAtMs + entry.ttlMs);
  }

  /** Pins a chunk until `ttlMs` after now. */
  pin(entry: Entry<Data>, ttlMs: number, nowMs: number): void {
    entry.pinTtlMs = ttlMs;
    entry.pinnedUntilMs = nowMs + ttlMs;
    entry.pinEnd ??= new Ticket(entry);
    this.#pinEnds.set(entry.pinEnd, entry.pinnedUntilMs);
  }

  unpin(entry: Entry<Data>): void {
    entry.pinTtlMs = undefined;
    entry.pinnedUntilMs = undefined;
    if (entry.pinEnd !== undefined) this.#pinEnds.delete(entry.pinEnd);
  }

  /** A use renews both. */
  renew(entry: Entry<Data>, nowMs: number): void {
    entry.usedAtMs = nowMs;
    if (entry.pinTtlMs !== undefined) entry.pinnedUntilMs = nowMs + entry.pinTtlMs;
  }

  forget(entry: Entry<Data>): void {
    this.unpin(entry);
    this.#unwatch(entry);
  }

  /** A chunk whose pin ran out; it stays pinned until `unpin`. */
  endedPin(nowMs: number): Entry<Data> | undefined {
    for (;;) {
      const first = this.#pinEnds.first;
      if (first === undefined || first.value > nowMs) return undefined;
      const untilMs = first.item.pinnedUntilMs!;
      if (untilMs <= nowMs) return first.item;
      this.#pinEnds.set(first, untilMs);
    }
  }

  /** Looks at up to `looks` chunks whose TTL may have run out, for one that is expired. */
  expired(nowMs: number, looks: number): Entry<Data> | undefined {
    for (let look = 0; look < looks; look++) {
      const first = this.#expiries.first;
      if (first === undefined || first.value > nowMs) return undefined;
      const entry = first.item;
      if (entry.isExpired(nowMs)) return entry;
      // It was used, or is held: then its TTL may start again when it is let go.
      const startedAtMs = nowMs - entry.usedAtMs < entry.ttlMs! ? entry.usedAtMs : nowMs;
      this.#expiries.set(first, startedAtMs + entry.ttlMs!);
    }
    return undefined;
  }

  #unwatch(entry: Entry<Data>): void {
    if (entry.expiry !== undefined) this.#expiries.delete(entry.expiry);
  }

  #rewind(nowMs: number): void {
    for (const { item } of Array.from(this.#expiries.ascending())) {
      item.usedAtMs = Math.min(item.usedAtMs, nowMs);
      this.watch(item);
    }
    for (const ticket of Array.from(this.#pinEnds.ascending())) {
      const { item } = ticket;
      item.pinnedUntilMs = Math.min(item.pinnedUntilMs!, nowMs + item.pinTtlMs!);
      this.#pinEnds.set(ticket, item.pinnedUntilMs);
    }
  }
}
