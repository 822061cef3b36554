/**
 * The one who has the directory, from one loss to the next: opens it, opens it again when its thread or catalogue was
 * lost, and closes it.
 *
 *   opening ─→ open ⇄ opening (lost) ; closing ─→ closed
 *
 * A first attempt that fails ends in `closed`. Later ones are repeated, with a pause between them, whenever `retry` is
 * called. Before a new attempt all that was asked of the last one is answered, so that nothing is half done when the
 * chunks are told again.
 */
import type { Clock } from '../clock.js';
import type { ChunkStore } from '../store.js';
import type { DiskBackend, LoadedChunk, LoadReport, OpenBackend } from './backend.js';
import { Backoff } from './backoff.js';
import { DiskError } from './disk-error.js';

/** What becomes of the chunks that an opened directory has, before the state becomes `open`. */
export interface TakeIn {
  /** Each after its parent. */
  add(found: readonly LoadedChunk[]): void;
  /** That was all. */
  finish(backend: DiskBackend, report: LoadReport): Promise<void>;
  /** There was more, but it was lost. */
  abandon(): Promise<void>;
}

export interface DiskConnectionOptions {
  readonly openBackend: OpenBackend;
  readonly clock: Clock;
  readonly beginTakeIn: () => TakeIn;
  readonly onLost: (error: Error) => void;
  readonly onTrouble: () => void;
}

export class DiskConnection {
  /** Resolves when it is open for the first time, or closed before. @throws DiskError when the first attempt failed */
  readonly opened: Promise<void>;
  readonly #options: DiskConnectionOptions;
  readonly #backoff: Backoff;
  /** What was asked of the backend and is not answered. */
  readonly #running = new Set<Promise<unknown>>();
  #state: ChunkStore['state'] = 'opening';
  #backend: DiskBackend | undefined;
  #isCatalogueLost = false;
  /** Undefined between attempts. */
  #attempt: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: DiskConnectionOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.clock);
    this.opened = this.#start();
    this.opened.catch(() => {
      this.#state = 'closed';
    });
    this.#attempt = this.opened.catch(() => {});
  }

  get state(): ChunkStore['state'] {
    return this.#state;
  }

  /** While it is open, and to finish what is asked while it closes. */
  get backend(): DiskBackend | undefined {
    return this.#backend;
  }

  /** Lets `task` end before the backend is closed or replaced. */
  async track<T>(task: Promise<T>): Promise<T> {
    this.#running.add(task);
    try {
      return await task;
    } finally {
      this.#running.delete(task);
    }
  }

  /** Tries to open again, if it was lost and the last attempt is some time ago. */
  retry(): void {
    if (this.#state !== 'opening' || this.#attempt !== undefined || this.#backoff.isPaused) return;
    this.#attempt = this.#start()
      .catch(() => this.#backoff.failed())
      .finally(() => {
        this.#attempt = undefined;
      });
  }

  /** `last` is asked of the backend when everything else is answered. */
  close(last: (backend: DiskBackend) => void): Promise<void> {
    this.#closed ??= this.#close(last);
    return this.#closed;
  }

  async #close(last: (backend: DiskBackend) => void): Promise<void> {
    if (this.#state === 'closed') return;
    this.#state = 'closing';
    await this.#attempt;
    await Promise.allSettled(this.#running);
    await this.#attempt; // what ran may have been lost
    if (this.#backend !== undefined) {
      last(this.#backend);
      await this.#backend.close();
    }
    this.#backend = undefined;
    this.#state = 'closed';
  }

  async #start(): Promise<void> {
    let lost: Error | undefined;
    let opened: DiskBackend | undefined;
    const backend = await this.#options.openBackend({
      isCatalogueLost: this.#isCatalogueLost,
      onTrouble: this.#options.onTrouble,
      onLost: (error) => {
        lost = error;
        if (opened !== undefined) this.#lose(opened, error);
      },
    });
    const takeIn = this.#options.beginTakeIn();
    try {
      const report = await backend.load((chunks) => takeIn.add(chunks));
      await takeIn.finish(backend, report);
      this.#isCatalogueLost = false;
      if (lost !== undefined) throw lost;
    } catch (error) {
      await takeIn.abandon();
      this.#noteCatalogue(error);
      await backend.close();
      throw error;
    }
    opened = backend;
    this.#backoff.succeeded();
    this.#backend = backend;
    if (this.#state === 'opening') this.#state = 'open';
  }

  #lose(backend: DiskBackend, error: Error): void {
    this.#noteCatalogue(error);
    this.#backend = undefined;
    this.#options.onLost(error);
    if (this.#state === 'open') this.#state = 'opening';
    this.#attempt = this.#replace(backend);
  }

  async #replace(backend: DiskBackend): Promise<void> {
    await backend.close();
    await Promise.allSettled(this.#running);
    this.#attempt = undefined;
    this.retry();
  }

  #noteCatalogue(error: unknown): void {
    if (error instanceof DiskError && error.code === 'catalogue_lost') this.#isCatalogueLost = true;
  }
}
