/**
 * How classes of chunks divide a tier, so that none starves another.
 *
 * A share is a guarantee, no fence: what a class does not use is lent to the others, and given back when it asks. See
 * `Residents.makeRoomFor` for who gives way. A chunk's class follows from its namespace. Knows no names of classes.
 */
import assert from 'node:assert/strict';

export interface Shares {
  /** Of the capacity, by the name of the class: 0 to 1 each, together 1. */
  readonly of: Readonly<Record<string, number>>;
  /** The class of the chunks of a namespace, always the same. */
  readonly classOf: (namespace: string) => string;
}

/** Everything is of one class. */
export const UNDIVIDED: Shares = { of: { all: 1 }, classOf: () => 'all' };

/** What chunks of one class take in a tier. */
export interface ClassHolding {
  readonly bytes: number;
  /** Those being written, and those that left but are leased, included. */
  readonly chunks: number;
  /** What it need not give up. */
  readonly shareBytes: number;
}

export function requireShares(shares: Shares): void {
  const each = Object.values(shares.of);
  assert(
    each.every((share) => share >= 0),
    'a share is not negative',
  );
  assert(Math.abs(each.reduce((sum, share) => sum + share, 0) - 1) < 1e-9, 'shares are the whole capacity');
}
