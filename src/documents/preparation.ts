/**
 * Computes the KV of the documents that wish for it, one after another, in the order of their wishes.
 *
 * What is wished for stands in the table, so it outlives the process. A wish ends as `ready` or `failed`, and stays
 * `queued` when the server stops. When its document changed or went meanwhile, what was computed is let go.
 */
import { setImmediate } from 'node:timers/promises';
import type { Logger } from 'pino';
import { DiskError } from '#storage';
import { RadixkvError } from '../errors.js';
import type { PassageService } from '../serving/passages.js';
import type { DocumentFailure, StoredDocument } from './document.js';
import type { DocumentTable } from './document-table.js';

interface Job {
  readonly document: StoredDocument;
  readonly aborter: AbortController;
  computedTokens: number;
}

export class Preparation {
  readonly #table: DocumentTable;
  readonly #passages: PassageService;
  readonly #logger: Logger | undefined;
  #job: Job | undefined;
  #loop = Promise.resolve();
  #isRunning = false;
  #isClosed = false;

  constructor(parts: {
    readonly table: DocumentTable;
    readonly passages: PassageService;
    readonly logger: Logger | undefined;
  }) {
    this.#table = parts.table;
    this.#passages = parts.passages;
    this.#logger = parts.logger;
  }

  /** Goes on as long as the table has wishes. */
  wake(): void {
    if (this.#isClosed || this.#isRunning) return;
    this.#isRunning = true;
    this.#loop = this.#run();
  }

  /** Tokens computed for this wish; undefined unless it is the one that is being computed. */
  computedTokens({ version }: StoredDocument): number | undefined {
    return this.#job?.document.version === version ? this.#job.computedTokens : undefined;
  }

  /** Ends the computing of a content that no document has any more. */
  abort(namespace: string, content: Uint8Array): void {
    const job = this.#job;
    if (job?.document.namespace !== namespace || Buffer.compare(job.document.content, content) !== 0) return;
    job.aborter.abort();
  }

  /** Ends the job that runs, whose wish stays queued. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#job?.aborter.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    try {
      while (!this.#isClosed) {
        const document = this.#table.nextQueued();
        if (document === undefined) return;
        this.#job = { document, aborter: new AbortController(), computedTokens: 0 };
        const outcome = await this.#prepare(this.#job);
        if (outcome === 'stopped') return;
        this.#settle(document, outcome);
        this.#job = undefined;
        // Where there is nothing to compute, nothing else would let requests in between.
        await setImmediate();
      }
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      this.#logger?.error({ err: error }, 'the library of documents failed; what is queued waits');
    } finally {
      this.#job = undefined;
      this.#isRunning = false;
    }
  }

  async #prepare(job: Job): Promise<'ready' | 'stopped' | DocumentFailure> {
    const { namespace, passage, content } = job.document;
    const { signal } = job.aborter;
    try {
      this.#passages.tokens(passage);
      const { isPinned, ttlMs } = this.#table.wishOf(namespace, content)!;
      const onProgress = (tokens: number) => {
        job.computedTokens = tokens;
      };
      await this.#passages.prepare({ namespace, passage, pinned: isPinned, ttlMs, signal, onProgress });
      return 'ready';
    } catch (error) {
      if (signal.aborted) return this.#isClosed ? 'stopped' : 'ready';
      if (!(error instanceof RadixkvError)) throw error;
      return error.code === 'shutting_down' ? 'stopped' : { code: error.code, message: error.message };
    }
  }

  #settle(
    { version, namespace, passage, content }: StoredDocument,
    outcome: 'ready' | DocumentFailure,
  ): void {
    this.#table.settle(version, outcome === 'ready' ? undefined : outcome);
    if (this.#table.wishOf(namespace, content) === undefined) this.#passages.forget(namespace, passage);
  }
}
