/**
 * Which sequences are decoded in one run of the graph, and how much of what they have in common is read once for all.
 *
 * Sequences are put in the order of a radix tree, in which those with a common prefix stand together (ChunkAttention,
 * Ye et al., ACL 2024, §3.1). Of all ways to cut that order into batches, the one is taken that is predicted to be
 * quickest; each batch shares what all its sequences have in common, or nothing. So of nested prefixes (a system
 * prompt that all begin with, a document that some go on with) the one is shared that pays most. Pure.
 */
import assert from 'node:assert/strict';
import { commonPrefix, type Run, wholeRows } from '../cache/device-runs.js';
import type { DecodeShape } from './decode-costs.js';

/** The part of a run that planning reads. Rows `[0, exact)` of equal tokens in a namespace are equal. */
export type PlannedRun = Pick<Run, 'namespace' | 'tokens' | 'length' | 'exact' | 'base'>;

export interface PlannedBatch<Member> {
  readonly members: readonly Member[];
  /** Rows `[0, sharedRows)` of all members' runs are equal, and to be read once. */
  readonly sharedRows: number;
}

export interface BatchLimits {
  readonly rowsMax: number;
  /** Fewer common rows are read by each sequence for itself. */
  readonly sharedRowsMin: number;
  /** The number of shared rows is a multiple of it. */
  readonly sharedRowsStep: number;
}

/** @param predict milliseconds of a batch */
export function planDecode<Member extends { readonly run: PlannedRun }>(
  members: readonly Member[],
  predict: (shape: DecodeShape) => number,
  limits: BatchLimits,
): PlannedBatch<Member>[] {
  const ordered = members.toSorted((a, b) => radixOrder(a.run, b.run));
  const common = ordered.map(({ run }, i) => (i === 0 ? 0 : commonRows(ordered[i - 1]!.run, run)));
  // best[end]: the quickest way to cut the first `end` members, by its last batch.
  const best: { readonly ms: number; readonly start: number; readonly sharedRows: number }[] = [
    { ms: 0, start: 0, sharedRows: 0 },
  ];
  for (let end = 1; end <= ordered.length; end++) {
    let quickest: (typeof best)[number] | undefined;
    let shared = Infinity;
    for (let start = end - 1; start >= Math.max(0, end - limits.rowsMax); start--) {
      const positions = ordered.slice(start, end).map(({ run }) => run.length);
      const usable = sharedRowsOf(ordered.slice(start, end), shared, limits);
      for (const sharedRows of usable > 0 ? [usable, 0] : [0]) {
        const ms = best[start]!.ms + predict({ positions, sharedRows });
        if (quickest === undefined || ms < quickest.ms) quickest = { ms, start, sharedRows };
      }
      shared = Math.min(shared, common[start]!);
    }
    assert(quickest !== undefined);
    best.push(quickest);
  }
  const batches: PlannedBatch<Member>[] = [];
  for (let end = ordered.length; end > 0; end = best[end]!.start) {
    const { start, sharedRows } = best[end]!;
    batches.unshift({ members: ordered.slice(start, end), sharedRows });
  }
  return batches;
}

/** How many of the `common` rows can be read once: as many as one of the runs has in one piece, but no whole run. */
export function sharedRowsOf(
  members: readonly { readonly run: PlannedRun }[],
  common: number,
  { sharedRowsMin, sharedRowsStep }: BatchLimits,
): number {
  if (members.length < 2) return 0;
  const whole = Math.max(...members.map(({ run }) => wholeRows(run)));
  const rows = Math.min(common, whole, ...members.map(({ run }) => run.length - 1));
  const usable = Math.floor(rows / sharedRowsStep) * sharedRowsStep;
  return usable >= sharedRowsMin ? usable : 0;
}

function commonRows(a: PlannedRun, b: PlannedRun): number {
  if (a.namespace !== b.namespace) return 0;
  return commonPrefix(a.tokens.subarray(0, a.exact), b.tokens.subarray(0, b.exact));
}

function radixOrder(a: PlannedRun, b: PlannedRun): number {
  if (a.namespace !== b.namespace) return a.namespace < b.namespace ? -1 : 1;
  const common = commonRows(a, b);
  if (common === a.exact || common === b.exact) return a.exact - b.exact;
  return a.tokens[common]! - b.tokens[common]!;
}
