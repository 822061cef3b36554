/**
 * A passage that is computed ahead of time: one tile of the scheduler's time after another.
 *
 * Ends once: done, failed or aborted; its scratch run is freed with it.
 */
import type { Run } from '../cache/device-runs.js';
import type { KvCache } from '../cache/kv-cache.js';
import type { Engine } from '../engine/engine.js';
import { RadixkvError } from '../errors.js';
import type { PassageJob } from './passages.js';
import { fillSegment, type Segment } from './segment.js';

interface StepParts {
  readonly cache: KvCache;
  readonly engine: Engine;
  readonly tileTokens: () => number;
}

export class PassageTask {
  /** Settles when the task ends. */
  readonly done: Promise<void>;
  readonly #job: PassageJob;
  readonly #segment: Segment;
  #steps: AsyncGenerator<void, unknown, void> | undefined;
  #scratch: Run | undefined;
  #resolve!: () => void;
  #reject!: (error: unknown) => void;

  constructor(job: PassageJob, segment: Segment) {
    this.#job = job;
    this.#segment = segment;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  get signal(): AbortSignal {
    return this.#job.signal;
  }

  /** Computes one tile. An operating error ends this task alone. */
  async step(parts: StepParts): Promise<'going on' | 'ended' | 'no memory'> {
    try {
      if (this.#steps === undefined) {
        const { namespace, tokens } = this.#segment;
        this.#scratch = await parts.cache.scratch(namespace, tokens.length);
        if (this.#scratch === undefined) return 'no memory';
        this.#steps = this.#fill(parts, this.#scratch);
      }
      const { done } = await this.#steps.next();
      if (done !== true) return 'going on';
      this.#resolve();
    } catch (error) {
      if (!(error instanceof RadixkvError)) throw error;
      this.#reject(error);
    }
    this.#end(parts.cache);
    return 'ended';
  }

  /** The engine lost its memory: begin anew. */
  restart(): void {
    this.#steps = undefined;
    this.#scratch = undefined;
  }

  /** Nobody wants it any more; not while a step runs. */
  abort(cache: KvCache): void {
    this.#reject(this.signal.reason);
    this.#end(cache);
  }

  /** The engine is going away with what the task holds. */
  fail(error: RadixkvError): void {
    this.#reject(error);
  }

  #end(cache: KvCache): void {
    if (this.#scratch !== undefined) cache.discard(this.#scratch);
  }

  async *#fill({ cache, engine, tileTokens }: StepParts, scratch: Run): AsyncGenerator<void, void, void> {
    const { ttlMs, pinned: isPinned } = this.#job;
    const { namespace, tokens, rows, head } = this.#segment;
    const onComputed = (rowsThere: number) => this.#job.onProgress(Math.max(0, rowsThere - head));
    yield* fillSegment({ cache, engine }, scratch, this.#segment, { tileTokens, onComputed });
    cache.keep(namespace, tokens, { ttlMs, isPinned, sharedTokens: head });
    this.#job.onProgress(rows - head);
  }
}
