/**
 * The connection to the remote tier, and who may use it: a link behind a circuit breaker.
 *
 * What fails in a way that says nothing good of the connection (an answer that does not come in time, a connection
 * that is lost, a server that can't read) opens the breaker: the link is destroyed, which ends all that others wait
 * for at once, and after a pause a probe connects anew. The probe asks what failed last, so that what is still slow or
 * frozen is found out by it and not by a request. A write that is refused says nothing of reads, and is left to the
 * writer.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../clock.js';
import type { Stopwatch } from '../disk/speed-meter.js';
import { Breaker, type BreakerState } from './breaker.js';
import type { RemoteCounters, RemoteOperation } from './remote-counters.js';
import { type ConnectRemote, RemoteError, type RemoteErrorKind, type RemoteLink } from './remote-link.js';

/** A probe must connect, and have its answers, within this time each. */
const PROBE_TIMEOUT_MS = 2000;

/** Asked for by the first probe. It need not be there. */
const PROBE_KEY = 'radixkv:probe';

/** What ends the connection whatever was asked. */
const ENDS_CONNECTION: ReadonlySet<RemoteErrorKind> = new Set(['disconnected', 'timeout']);

/** What was asked when the connection failed, for the probe to ask again. */
export interface Unanswered {
  /** Present or not? */
  readonly keys?: readonly string[];
  /** To be read. */
  readonly value?: string;
}

export interface RemoteConnectionOptions {
  readonly connect: ConnectRemote;
  /** Whether another server may become the master, which connecting anew finds. */
  readonly canMove: boolean;
  readonly counters: RemoteCounters;
  readonly clock: Clock;
  readonly stopwatch: Stopwatch;
  /** A slow server is found by this: bytes that a probe read, and the time that took. */
  readonly onProbed: (bytes: number, ms: number) => void;
  readonly onState: (state: BreakerState, reason: string | undefined) => void;
  /** Milliseconds that an operation took, however it ended. */
  readonly onTimed: (operation: RemoteOperation, ms: number) => void;
}

export class RemoteConnection {
  readonly #options: RemoteConnectionOptions;
  readonly #breaker: Breaker;
  #link: RemoteLink | undefined;
  #unanswered: Unanswered = {};
  #answeredAtMs = -Infinity;
  #timer: NodeJS.Timeout | undefined;
  #probe: Promise<void>;
  #isClosed = false;

  /** Begins to connect. */
  constructor(options: RemoteConnectionOptions) {
    this.#options = options;
    this.#breaker = new Breaker({ clock: options.clock, onChange: options.onState });
    this.#probe = this.#tryAgain();
  }

  /** Resolves when the first attempt to connect has ended; never rejects. */
  get attempted(): Promise<void> {
    return this.#probe;
  }

  get isUsable(): boolean {
    return this.#link !== undefined && this.#breaker.state === 'closed';
  }

  reading() {
    const { state, reason, trips } = this.#breaker;
    return { state, reason, trips };
  }

  /**
   * Asks something, if the breaker is closed.
   *
   * @param isRead an error of the server then opens the breaker, too
   * @throws RemoteError
   */
  async ask<T>(
    operation: RemoteOperation,
    command: (link: RemoteLink) => Promise<T>,
    { isRead = false, unanswered = {} }: { readonly isRead?: boolean; readonly unanswered?: Unanswered } = {},
  ): Promise<T> {
    const { counters, stopwatch, onTimed } = this.#options;
    const link = this.#link;
    if (link === undefined || !this.isUsable) throw new RemoteError('disconnected');
    const startedAtMs = stopwatch();
    try {
      const reply = await command(link);
      counters.requests[operation].ok++;
      if (isRead) this.#answeredAtMs = stopwatch();
      return reply;
    } catch (error) {
      if (!(error instanceof RemoteError)) throw error;
      counters.requests[operation].failed++;
      // What ends with a link that was given up is not another error.
      if (link === this.#link) {
        if (isRead || ENDS_CONNECTION.has(error.kind)) this.trip(error.kind, unanswered);
        else counters.errors[error.kind]++;
      }
      throw error;
    } finally {
      onTimed(operation, stopwatch() - startedAtMs);
    }
  }

  /**
   * Waits for what was asked until a moment of the stopwatch. When nothing at all was answered in the meantime, the
   * server is taken for dead, and the breaker opens.
   *
   * @returns undefined when it did not come in time
   */
  async within<T>(work: Promise<T>, untilMs: number, unanswered: Unanswered): Promise<T | undefined> {
    const { stopwatch } = this.#options;
    const link = this.#link;
    const startedAtMs = stopwatch();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), Math.max(0, untilMs - startedAtMs));
    });
    const done = work.then((value) => ({ value }));
    try {
      let first = await Promise.race([done, late]);
      if (first === 'late') {
        // A thread that was busy sees its timers before what came in meanwhile.
        first = await Promise.race([done, nextTurn('late' as const)]);
      }
      if (first !== 'late') return first.value;
    } finally {
      clearTimeout(timer);
    }
    const isSilent = this.#answeredAtMs < startedAtMs;
    if (isSilent && link !== undefined && link === this.#link) this.trip('timeout', unanswered);
    return undefined;
  }

  /** Gives up the link, and tries again after a pause. */
  trip(kind: RemoteErrorKind, unanswered: Unanswered = {}): void {
    if (this.#isClosed || !this.#breaker.trip(kind)) return;
    this.#options.counters.errors[kind]++;
    this.#unanswered = unanswered;
    this.#link?.destroy();
    this.#link = undefined;
    this.#timer = setTimeout(() => {
      this.#probe = this.#tryAgain();
    }, this.#breaker.pauseMs).unref();
  }

  /** The server says that it is not the master (any more). */
  notMaster(): void {
    if (this.#options.canMove) this.trip('read_only');
  }

  /** Ends what is under way. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#link?.destroy();
    this.#link = undefined;
    await this.#probe;
  }

  async #tryAgain(): Promise<void> {
    const { connect } = this.#options;
    this.#breaker.beginProbe();
    let link: RemoteLink | undefined;
    try {
      link = await connect({
        timeoutMs: PROBE_TIMEOUT_MS,
        onLost: () => {
          if (link !== undefined && link === this.#link) this.trip('disconnected');
        },
      });
      await this.#ask(link);
    } catch (error) {
      link?.destroy();
      if (!(error instanceof RemoteError)) throw error;
      this.trip(error.kind, this.#unanswered);
      return;
    }
    if (this.#isClosed) {
      link.destroy();
      return;
    }
    this.#link = link;
    this.#unanswered = {};
    this.#breaker.passed();
  }

  /** @throws RemoteError */
  async #ask(link: RemoteLink): Promise<void> {
    const { stopwatch, onProbed } = this.#options;
    const { keys = [], value } = this.#unanswered;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new RemoteError('timeout')), PROBE_TIMEOUT_MS);
    });
    const asked = async (): Promise<void> => {
      await link.present([PROBE_KEY, ...keys]);
      if (value === undefined) return;
      const startedAtMs = stopwatch();
      const bytes = (await link.get(value))?.byteLength ?? 0;
      if (bytes > 0) onProbed(bytes, stopwatch() - startedAtMs);
    };
    const asking = asked();
    asking.catch(() => {}); // when it is late
    try {
      await Promise.race([asking, late]);
    } finally {
      clearTimeout(timer);
    }
  }
}
