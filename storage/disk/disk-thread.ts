/**
 * The owner of a disk directory on a thread of its own, so that no file operation, hash or SQL statement runs on the
 * caller's. Buffers in shared memory go there as they are; others are copied through shared scratch memory.
 */
import { Worker } from 'node:worker_threads';
import type { ChunkKey } from '../key.js';
import type {
  BackendListener,
  DiskBackend,
  LoadedChunk,
  LoadReport,
  ReadResult,
  WriteRequest,
  WriteResult,
} from './backend.js';
import type { UsageOf } from './catalogue.js';
import { DiskError } from './disk-error.js';
import type { DiskAnswer, DiskThreadOptions, FromDisk, ToDisk } from './disk-protocol.js';
import { unpackChunks } from './packed-chunks.js';

/** Starts the thread; tests keep hold of it. */
export type CreateWorker = (options: DiskThreadOptions) => Worker;

interface Waiting {
  /** The answer is the one of the request, which the type of a message can't tell. */
  answer(answer: DiskAnswer): void;
  /** What is answered when the thread dies. */
  readonly otherwise: DiskAnswer;
}

interface Loading {
  readonly onLoaded: (chunks: readonly LoadedChunk[]) => void;
  readonly resolve: (report: LoadReport) => void;
  readonly reject: (error: Error) => void;
}

export class DiskThread implements DiskBackend {
  readonly #worker: Worker;
  readonly #chunkBytes: number;
  readonly #listener: BackendListener;
  readonly #opened: Promise<void>;
  readonly #exited: Promise<void>;
  readonly #waiting = new Map<number, Waiting>();
  /** Shared memory for callers' buffers that are not shared; as much as was needed at once. */
  readonly #scratch: Uint8Array[] = [];
  #loading: Loading | undefined;
  #state: 'opening' | 'open' | 'lost' | 'closed' = 'opening';
  #nextId = 0;

  private constructor(worker: Worker, chunkBytes: number, listener: BackendListener) {
    this.#worker = worker;
    this.#chunkBytes = chunkBytes;
    this.#listener = listener;
    let failure: unknown;
    this.#opened = new Promise((resolve, reject) => {
      worker.on('message', (message: FromDisk) => this.#receive(message, { resolve, reject }));
      worker.on('error', (error) => {
        failure = error;
      });
      worker.on('exit', () => {
        const error = new DiskError(
          'disk_thread_died',
          `the disk's thread died: ${String(failure)}`,
          failure,
        );
        reject(error);
        this.#settle(error);
        this.#lose(error);
      });
    });
    this.#exited = new Promise((resolve) => worker.once('exit', () => resolve()));
  }

  /** @throws DiskError when the directory can't be opened */
  static async open(
    options: DiskThreadOptions,
    listener: BackendListener,
    createWorker: CreateWorker = startWorker,
  ): Promise<DiskThread> {
    const thread = new DiskThread(createWorker(options), options.layout.chunkBytes, listener);
    await thread.#opened;
    return thread;
  }

  load(onLoaded: (chunks: readonly LoadedChunk[]) => void): Promise<LoadReport> {
    return new Promise((resolve, reject) => {
      this.#loading = { onLoaded, resolve, reject };
      this.#post({ op: 'load' });
    });
  }

  async read(key: ChunkKey, into: Uint8Array): Promise<ReadResult> {
    const otherwise: ReadResult = { outcome: 'unavailable' };
    if (isShared(into)) return this.#ask((id) => ({ op: 'read', id, key, into }), otherwise);
    return this.#withScratch(async (scratch) => {
      const result = await this.#ask<ReadResult>((id) => ({ op: 'read', id, key, into: scratch }), otherwise);
      if (result.outcome === 'hit') into.set(scratch);
      return result;
    });
  }

  async write(request: WriteRequest): Promise<WriteResult> {
    const { bytes } = request;
    const otherwise: WriteResult = { outcome: 'failed' };
    if (isShared(bytes)) return this.#ask((id) => ({ op: 'write', id, request }), otherwise);
    return this.#withScratch((scratch) => {
      scratch.set(bytes);
      return this.#ask((id) => ({ op: 'write', id, request: { ...request, bytes: scratch } }), otherwise);
    });
  }

  remove(keys: readonly ChunkKey[]): void {
    this.#post({ op: 'remove', keys });
  }

  use(uses: readonly UsageOf[]): void {
    this.#post({ op: 'use', uses });
  }

  freeBytes(): Promise<number | undefined> {
    return this.#ask((id) => ({ op: 'freeBytes', id }), undefined);
  }

  async close(): Promise<void> {
    if (this.#state === 'open') this.#state = 'closed';
    this.#post({ op: 'close' });
    await this.#exited;
  }

  /** A thread that ended takes no messages, and answers none: those who wait are answered when it ends. */
  #post(message: ToDisk): void {
    this.#worker.postMessage(message);
  }

  #ask<Answer extends DiskAnswer>(message: (id: number) => ToDisk, otherwise: Answer): Promise<Answer> {
    if (this.#state !== 'open') return Promise.resolve(otherwise);
    const id = this.#nextId++;
    return new Promise((answer: (answer: Answer) => void) => {
      this.#waiting.set(id, { answer, otherwise });
      this.#post(message(id));
    });
  }

  async #withScratch<T>(work: (scratch: Uint8Array) => Promise<T>): Promise<T> {
    const scratch = this.#scratch.pop() ?? new Uint8Array(new SharedArrayBuffer(this.#chunkBytes));
    const result = await work(scratch);
    this.#scratch.push(scratch);
    return result;
  }

  #receive(message: FromDisk, opening: { resolve: () => void; reject: (error: Error) => void }): void {
    switch (message.type) {
      case 'opened':
        this.#state = 'open';
        opening.resolve();
        break;
      case 'refused':
        opening.reject(new DiskError(message.code, message.message));
        break;
      case 'found':
        this.#loading?.onLoaded(unpackChunks(message.chunks));
        break;
      case 'loaded':
        this.#loading?.resolve(message.report);
        this.#loading = undefined;
        break;
      case 'answer':
        this.#waiting.get(message.id)?.answer(message.answer);
        this.#waiting.delete(message.id);
        break;
      case 'trouble':
        this.#listener.onTrouble();
        break;
      case 'lost': {
        const error = new DiskError(message.code, message.message);
        this.#loading?.reject(error);
        this.#lose(error);
        break;
      }
    }
  }

  #settle(error: Error): void {
    this.#loading?.reject(error);
    for (const waiting of this.#waiting.values()) waiting.answer(waiting.otherwise);
    this.#waiting.clear();
  }

  #lose(error: Error): void {
    if (this.#state !== 'open') return;
    this.#state = 'lost';
    this.#listener.onLost(error);
  }
}

const isShared = (bytes: Uint8Array): boolean => bytes.buffer instanceof SharedArrayBuffer;

function startWorker(options: DiskThreadOptions): Worker {
  return new Worker(new URL('./disk.worker.js', import.meta.url), { workerData: options });
}
