/**
 * Takes the rows of a request off the device while others need the memory, and brings them back.
 *
 * Exact rows lie in the tiers anyway, and are leased there. All others, which nobody else may find, are copied to
 * borrowed slots of host memory that hold no chunk. What can't be had back as it was (host memory was full, or a slot
 * was corrupt) is left to be computed again.
 */
import type { KvLayout } from '#storage';
import type { Engine } from '../engine/engine.js';
import type { SlotRows } from '../engine/protocol.js';
import type { Run } from './device-runs.js';
import type { BorrowedSlot, PrefixCache, PrefixLease } from './prefix-cache.js';

/** What a run held. End it with `KvCache.endSetAside`, whatever became of it. */
export interface SetAside
  extends Pick<Run, 'namespace' | 'tokens' | 'settled' | 'exact' | 'blended' | 'isPrivate'> {
  /** Chunks in the tiers with which it begins. */
  readonly lease: PrefixLease | undefined;
  /** The rows behind them, in order; as many as there was room for. */
  readonly slots: readonly (SlotRows & BorrowedSlot & { readonly checksum: bigint })[];
}

interface Parts {
  readonly engine: Engine;
  readonly layout: KvLayout;
  readonly prefixes: PrefixCache | undefined;
}

/**
 * Keeps the rows of a run, which is to be given up.
 *
 * @param tokens those that it is to have when it comes back: its rows, and maybe more
 * @throws RadixkvError `engine_failed`.
 */
export async function setAside(
  { engine, layout, prefixes }: Parts,
  run: Run,
  tokens: Int32Array,
): Promise<SetAside> {
  const { namespace, length } = run;
  const kept = recover({ prefixes }, run, tokens);
  const { lease } = kept;
  if (prefixes === undefined) return kept;
  const { chunkTokens } = layout;
  const first = lease?.tokens ?? 0;
  const borrowed = prefixes.borrow(namespace, Math.ceil((length - first) / chunkTokens));
  const places = borrowed.map((slot, i) => {
    const start = first + i * chunkTokens;
    return { ...slot, start, rows: Math.min(chunkTokens, length - start) };
  });
  try {
    const chunks = places.map(({ slot, start, rows }) => ({ slot, start, rows }));
    const { result } = await engine.call<'seal'>({ op: 'seal', run: run.id, chunks });
    return {
      ...kept,
      slots: places.map((place, i) => ({ ...place, checksum: result.checksums[i]! })),
    };
  } catch (error) {
    prefixes.abort(borrowed);
    if (lease !== undefined) prefixes.release(lease);
    throw error;
  }
}

/** What can be had back of a run whose rows are gone: what the tiers have of it. The rest is to be computed again. */
export function recover({ prefixes }: Pick<Parts, 'prefixes'>, run: Run, tokens: Int32Array): SetAside {
  const { namespace, settled, exact, blended, isPrivate } = run;
  const lease = isPrivate
    ? undefined
    : prefixes?.acquire(namespace, tokens.subarray(0, exact), 'whole chunks', { isExactOnly: true });
  return { namespace, tokens: tokens.slice(), settled, exact, blended, isPrivate, lease, slots: [] };
}

/**
 * Brings back what lies in slots behind the first rows, which an active run of the same tokens has already. Where that
 * is not all, rows that prefill did not make are left out, since what is computed behind them would not be settled.
 */
export async function bringBack({ engine }: Pick<Parts, 'engine'>, run: Run, saved: SetAside): Promise<void> {
  const { tokens, settled, exact, blended } = saved;
  let end = run.length;
  const missing = saved.slots.filter(({ start, rows }) => start + rows > end);
  const [first] = missing;
  if (first !== undefined && first.start <= end) {
    const chunks = missing.map(({ slot, start, rows, checksum }) => ({ slot, start, rows, checksum }));
    const { result } = await engine.call<'load'>({ op: 'load', run: run.id, chunks });
    const last = missing[result.loaded - 1];
    if (last !== undefined) end = last.start + last.rows;
  }
  const isWhole = end === tokens.length;
  const length = isWhole ? end : Math.min(end, settled);
  Object.assign(run, {
    length,
    settled: Math.min(length, settled),
    exact: Math.min(length, exact),
    blended: isWhole ? blended : 0,
  });
}
