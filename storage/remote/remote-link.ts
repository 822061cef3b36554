/**
 * The border to a Redis client: the few commands that the remote tier needs, each of one key, so that all of them work
 * in a Cluster. Commands that are asked in one turn of the event loop go out together and come back in one round trip.
 */

export interface RemoteLink {
  /** Which of the keys are there. */
  present(keys: readonly string[]): Promise<boolean[]>;
  get(key: string): Promise<Buffer | undefined>;
  /** `value` must not change until this resolves. */
  set(key: string, value: Buffer, ttlMs: number): Promise<void>;
  unlink(keys: readonly string[]): Promise<void>;
  /** The numbers of a hash. */
  numbers(key: string): Promise<Map<string, number>>;
  /** Adds to a number of a hash, which is kept for so long from now on. @returns the sum */
  add(key: string, field: string, by: number, ttlMs: number): Promise<number>;
  dropNumbers(key: string, fields: readonly string[]): Promise<void>;
  /** Ends at once; what is under way is rejected. */
  destroy(): void;
}

/**
 * Why a command failed:
 * - `read_only`     the server is a replica
 * - `full`          it has no memory left
 * - `denied`        name, password or rights do not suffice
 * - `unready`       it loads, waits for its master, or its Cluster is incomplete
 * - `refused`       another error it answered with
 * - `disconnected`  there is no connection any more, or none can be had
 * - `timeout`       there was no answer in time
 */
export const REMOTE_ERRORS = [
  'read_only',
  'full',
  'denied',
  'unready',
  'refused',
  'disconnected',
  'timeout',
] as const;
export type RemoteErrorKind = (typeof REMOTE_ERRORS)[number];

export class RemoteError extends Error {
  readonly kind: RemoteErrorKind;

  constructor(kind: RemoteErrorKind, cause?: unknown) {
    super(kind, { cause });
    this.kind = kind;
  }
}

/** Connects anew, also to who is master by now. @throws RemoteError when it can't be had within the time limit. */
export type ConnectRemote = (options: {
  readonly timeoutMs: number;
  /** The connection was lost while nothing was asked. */
  readonly onLost: () => void;
}) => Promise<RemoteLink>;
