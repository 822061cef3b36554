/**
 * The engine as the main thread sees it: a worker that computes, behind promises.
 *
 * When the worker dies, every request it held is rejected with `engine_failed`, all runs and samplers are gone, and a
 * new worker is started, again and again until one is ready. Knows no scheduling: requests are worked off in the
 * order they are made.
 */
import { Worker } from 'node:worker_threads';
import { RadixkvError } from '../errors.js';
import type { BusBytes } from './device.js';
import type { EngineRequest, EngineResults, FromWorker, Op, ToWorker, WorkerOptions } from './protocol.js';

/** Pause before a dead worker is replaced, so that one that dies at once does not spin. */
const RESTART_DELAY_MS = 500;

interface Done<Result> {
  readonly result: Result;
  readonly ms: number;
}

interface Waiting {
  /** The result is the one of the request's op, which the type of a reply can't tell. */
  resolve(done: Done<unknown>): void;
  reject(error: RadixkvError): void;
}

export interface EngineOptions extends WorkerOptions {
  /** Called after the worker died: its runs are gone. It was not ready if it was to replace one and could not start. */
  readonly onLost?: (reason: string, wasReady: boolean) => void;
  /** Called when a worker can take requests, the first one too. */
  readonly onReady?: () => void;
  /** Starts the worker; tests keep hold of it. */
  readonly createWorker?: (options: WorkerOptions) => Worker;
}

export class Engine {
  readonly #options: EngineOptions;
  readonly #waiting = new Map<number, Waiting>();
  #worker: Worker | undefined;
  #state: 'starting' | 'ready' | 'down' | 'closed' = 'starting';
  #nextId = 0;
  #isCreated = false;
  #bus: BusBytes | undefined;
  /** What went over the bus of workers that are gone. */
  #busBefore: BusBytes | undefined;

  private constructor(options: EngineOptions) {
    this.#options = options;
  }

  /** Starts the worker and loads the model. @throws RadixkvError `engine_failed` when it can't be loaded. */
  static async create(options: EngineOptions): Promise<Engine> {
    const engine = new Engine(options);
    await engine.#start();
    engine.#isCreated = true;
    return engine;
  }

  /** Bytes between host and device since the start; undefined where they are one. */
  get bus(): BusBytes | undefined {
    return this.#bus && sumOf(this.#bus, this.#busBefore);
  }

  get isReady(): boolean {
    return this.#state === 'ready';
  }

  /**
   * Sends a request and waits for its answer.
   *
   * @returns the result and the milliseconds the worker spent on it.
   * @throws RadixkvError `engine_failed` when the worker is down, dies or reports an error.
   */
  async call<O extends Op>(request: Extract<EngineRequest, { op: O }>): Promise<Done<EngineResults[O]>> {
    const worker = this.#worker;
    if (worker === undefined || this.#state !== 'ready') throw lost('the engine is not running');
    return new Promise((resolve: (done: Done<EngineResults[O]>) => void, reject) => {
      const id = this.#nextId++;
      this.#waiting.set(id, { resolve, reject });
      worker.postMessage({ id, request } satisfies ToWorker);
    });
  }

  async close(): Promise<void> {
    this.#state = 'closed';
    await this.#worker?.terminate();
  }

  #start(): Promise<void> {
    const { directory, threads, layout, device, slab } = this.#options;
    const createWorker = this.#options.createWorker ?? startWorker;
    const worker = createWorker({ directory, threads, layout, device, ...(slab && { slab }) });
    this.#worker = worker;
    this.#state = 'starting';
    return new Promise((resolve, reject) => {
      let failure: string | undefined;
      worker.on('message', (message: FromWorker) => {
        if (message.type === 'ready') {
          if (this.#state !== 'starting') return;
          this.#state = 'ready';
          this.#options.onReady?.();
          resolve();
        } else if (message.type === 'failed') failure = message.message;
        else this.#settle(message);
      });
      worker.on('error', (error) => {
        failure ??= error.message;
      });
      worker.on('exit', (code) => {
        const wasReady = this.#state === 'ready';
        const reason = failure ?? `the engine's thread ended with code ${code}`;
        reject(lost(reason));
        if (this.#state === 'closed') this.#rejectAll('the engine is closed');
        else this.#lose(reason, wasReady);
      });
    });
  }

  #settle(message: Extract<FromWorker, { id: number }>): void {
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.type === 'done' && message.bus !== undefined) this.#bus = message.bus;
    if (message.type === 'done') waiting?.resolve({ result: message.result, ms: message.ms });
    else waiting?.reject(lost(message.message));
  }

  #lose(reason: string, wasReady: boolean): void {
    this.#state = 'down';
    this.#worker = undefined;
    this.#busBefore = this.bus;
    if (this.#bus !== undefined) this.#bus = NO_BYTES;
    this.#rejectAll(reason);
    if (!this.#isCreated) return;
    this.#options.onLost?.(reason, wasReady);
    setTimeout(() => {
      if (this.#state === 'down') this.#start().catch(() => {});
    }, RESTART_DELAY_MS);
  }

  #rejectAll(reason: string): void {
    for (const waiting of this.#waiting.values()) waiting.reject(lost(reason));
    this.#waiting.clear();
  }
}

const NO_BYTES: BusBytes = { controlUp: 0, kvUp: 0, kvDown: 0, logitsDown: 0, measuresDown: 0 };

function sumOf(a: BusBytes, b = NO_BYTES): BusBytes {
  return {
    controlUp: a.controlUp + b.controlUp,
    kvUp: a.kvUp + b.kvUp,
    kvDown: a.kvDown + b.kvDown,
    logitsDown: a.logitsDown + b.logitsDown,
    measuresDown: a.measuresDown + b.measuresDown,
  };
}

function lost(reason: string): RadixkvError {
  return new RadixkvError('engine_failed', `the engine failed: ${reason}`, { retryAfterS: 1 });
}

function startWorker(options: WorkerOptions): Worker {
  return new Worker(new URL('./engine.worker.js', import.meta.url), { workerData: options });
}
