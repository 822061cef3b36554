/** What happened between a node and the remote tier since the start, in whole numbers. */
import type { REMOTE_ERRORS, RemoteErrorKind } from './remote-link.js';

/** What is asked: which chunks are there, one of them, to keep one, to forget one, what a namespace has written. */
export const REMOTE_OPERATIONS = ['exists', 'get', 'set', 'unlink', 'budget'] as const;
export type RemoteOperation = (typeof REMOTE_OPERATIONS)[number];

export interface RemoteCounters {
  /** Asked, by operation and how it went. */
  readonly requests: Record<RemoteOperation, { ok: number; failed: number }>;
  readonly errors: Record<RemoteErrorKind, number>;
  readBytes: number;
  writtenBytes: number;
  /**
   * Chunks that a prompt wanted: `hit` came and were verified; `missing` had gone since they were seen; `corrupt` were
   * not what they must be; `late` did not come within the deadline.
   */
  readonly reads: { hit: number; missing: number; corrupt: number; late: number };
  /**
   * Chunks that were to be kept: `present` already; `lost`, evicted before their turn; `overflowed`, since too many
   * waited; `over_budget`, more than their namespace may have; `corrupt`, changed in memory; `refused` by the server
   * or given up with the connection.
   */
  readonly writes: {
    stored: number;
    present: number;
    lost: number;
    overflowed: number;
    over_budget: number;
    corrupt: number;
    refused: number;
  };
}

const none = () => ({ ok: 0, failed: 0 });

export function zeroRemoteCounters(): RemoteCounters {
  const errors = { read_only: 0, full: 0, denied: 0, unready: 0, refused: 0, disconnected: 0, timeout: 0 };
  return {
    requests: { exists: none(), get: none(), set: none(), unlink: none(), budget: none() },
    errors: errors satisfies Record<(typeof REMOTE_ERRORS)[number], number>,
    readBytes: 0,
    writtenBytes: 0,
    reads: { hit: 0, missing: 0, corrupt: 0, late: 0 },
    writes: { stored: 0, present: 0, lost: 0, overflowed: 0, over_budget: 0, corrupt: 0, refused: 0 },
  };
}
