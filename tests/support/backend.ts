/**
 * The whole service over the tiny chat model, with chosen budgets, and a tap on what its worker is asked.
 *
 * The model is imported once a process. Its worker is the real one.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { Slab } from '#storage';
import { parseServeOptions } from '../../src/config/options.js';
import { type ChosenDevice, chooseDevice } from '../../src/engine/device-probe.js';
import type { EngineRequest, ToWorker, WorkerOptions } from '../../src/engine/protocol.js';
import { importModel } from '../../src/model/importer.js';
import { type Backend, type BackendOptions, createBackend } from '../../src/server.js';
import {
  type BlendExplanation,
  type CompletionEvent,
  type CompletionRequest,
  DEFAULT_CACHE,
  GREEDY,
  type SamplingParams,
  type Timings,
  tokensOf,
  type Usage,
} from '../../src/serving/completion.js';

/** A model of random weights over byte tokens. */
export const TINY_MODEL = fileURLToPath(new URL('../../../tests/golden/tiny/chat', import.meta.url));

/** Bytes of one token's rows in the tiny chat model: 2 layers, K and V of 2 heads of 16 float16 values. */
export const TINY_TOKEN_BYTES = 256;
const CHUNK_TOKENS = 16;
export const TINY_CHUNK_BYTES = CHUNK_TOKENS * TINY_TOKEN_BYTES;

let imported: Promise<string> | undefined;

/** An imported model of byte tokens with random weights, a context of 2,048 tokens and a chat template. */
export function tinyModel(): Promise<string> {
  imported ??= (async () => {
    const directory = await mkdtemp(join(tmpdir(), 'radixkv-tiny-'));
    process.once('exit', () => void rm(directory, { recursive: true, force: true }));
    await importModel({ path: TINY_MODEL, directory, weights: 'float32' });
    return directory;
  })();
  return imported;
}

/** What the worker was asked, and what it holds. */
export class WorkerTap {
  readonly requests: EngineRequest[] = [];
  readonly runs = new Map<number, number>();
  readonly samplers = new Set<number>();
  slab: Slab | undefined;
  worker: Worker | undefined;
  /** Called before a request is passed on. */
  onRequest: (request: EngineRequest) => void = () => {};
  workers = 0;
  /** So many of the next workers end before they are ready. */
  broken = 0;

  readonly createWorker = (options: WorkerOptions): Worker => {
    if (this.broken > 0) {
      this.broken--;
      return new Worker('process.exit(3)', { eval: true });
    }
    const worker = new Worker(new URL('../../src/engine/engine.worker.js', import.meta.url), {
      workerData: options,
    });
    this.workers++;
    this.worker = worker;
    this.slab = options.slab;
    this.runs.clear();
    this.samplers.clear();
    const post = worker.postMessage.bind(worker);
    worker.postMessage = (message: ToWorker) => {
      this.#note(message.request);
      this.onRequest(message.request);
      post(message);
    };
    return worker;
  };

  /** Rows computed by prefill since `from` requests. */
  prefilled(from = 0): number {
    return this.requests
      .slice(from)
      .reduce((sum, asked) => sum + (asked.op === 'prefill' ? asked.tokens.length : 0), 0);
  }

  /** Rows of all runs that the worker holds, those of a base once. */
  get runTokens(): number {
    return [...this.runs.values()].reduce((sum, tokens) => sum + tokens, 0);
  }

  #note(asked: EngineRequest): void {
    this.requests.push(asked);
    if (asked.op === 'createRun') this.runs.set(asked.run, asked.capacityTokens - (asked.base?.rows ?? 0));
    if (asked.op === 'freeRun') this.runs.delete(asked.run);
    if (asked.op === 'createSampler') this.samplers.add(asked.sampler);
    if (asked.op === 'freeSampler') this.samplers.delete(asked.sampler);
  }
}

let device: Promise<ChosenDevice> | undefined;

/** What backends of tests compute on: the CPU, unless `RADIXKV_TEST_DEVICE` names another. */
export function testDevice(): Promise<ChosenDevice> {
  device ??= chooseDevice(parseServeOptions({ device: process.env.RADIXKV_TEST_DEVICE }).device);
  return device;
}

export interface TestBackend extends Backend {
  readonly tap: WorkerTap;
}

/** A backend that is closed after the test. */
export async function testBackend(
  t: { after(hook: () => Promise<void>): void },
  options: Partial<BackendOptions> = {},
): Promise<TestBackend> {
  const tap = new WorkerTap();
  const chosenDevice = options.chosenDevice ?? (await testDevice());
  // Budgets are meant in tokens of float16, which take twice the bytes where the device has float32 only.
  const isWider = options.chosenDevice === undefined && chosenDevice.kind === 'webgpu';
  const factor = isWider && !chosenDevice.hasFloat16 ? 2 : 1;
  const budgets = {
    deviceBytes: factor * (options.deviceBytes ?? 4096 * TINY_TOKEN_BYTES),
    hostBytes: factor * (options.hostBytes ?? 256 * TINY_CHUNK_BYTES),
  };
  const backend = await createBackend({
    chosenDevice,
    modelDirectory: options.modelDirectory ?? (await tinyModel()),
    threads: 1,
    tileTokens: 64,
    chunkTokens: CHUNK_TOKENS,
    maxActive: 4,
    maxQueue: 16,
    maxActiveTokens: 100_000,
    maxQueueTokens: 100_000,
    tpotTargetMs: 20,
    patienceMs: 5000,
    writePolicy: 'write-through',
    writeHits: 2,
    eviction: 'lru',
    breakEven: 'off',
    segmentShare: 0.5,
    blendKlMax: 0.05,
    createWorker: tap.createWorker,
    ...options,
    ...budgets,
  });
  t.after(() => backend.close());
  return { ...backend, tap };
}

export type Ask = Partial<Omit<CompletionRequest, 'prompt' | 'sampling'>> & {
  /** A text, or the messages of a chat. */
  readonly prompt: string | readonly string[] | CompletionRequest['prompt'];
  readonly sampling?: Partial<SamplingParams>;
};

/** A greedy request of at most 8 tokens, unless told otherwise. Messages are the user's and the assistant's in turn. */
export function request({ prompt, sampling, ...rest }: Ask): CompletionRequest {
  return {
    id: 'test',
    prompt: promptOf(prompt),
    promptField: 'prompt',
    tenant: rest.namespace ?? '',
    namespace: '',
    n: 1,
    maxTokens: 8,
    stop: [],
    priority: 0,
    deadlineMs: undefined,
    cache: DEFAULT_CACHE,
    sampling: { ...GREEDY, ...sampling },
    signal: new AbortController().signal,
    ...rest,
  };
}

function promptOf(prompt: Ask['prompt']): CompletionRequest['prompt'] {
  if (typeof prompt === 'string') return { kind: 'text', text: prompt };
  if ('kind' in prompt) return prompt;
  const messages = prompt.map(
    (content, i) => ({ role: i % 2 === 0 ? 'user' : 'assistant', content }) as const,
  );
  return { kind: 'chat', messages, documents: [] };
}

export interface Answer {
  readonly texts: readonly string[];
  readonly text: string;
  readonly reasons: readonly string[];
  readonly logprobs: readonly number[];
  readonly tokens: readonly string[];
  readonly usage: Usage;
  readonly timings: Timings;
  readonly explanation: BlendExplanation | undefined;
  readonly cached: number;
}

/** Reads an answer to its end. Texts are by choice; tokens and log probabilities those of choice 0. */
export async function answerOf(events: AsyncIterable<CompletionEvent>): Promise<Answer> {
  const texts: string[] = [];
  const reasons: string[] = [];
  const logprobs: number[] = [];
  const tokens: string[] = [];
  for await (const event of events) {
    if (event.type === 'delta') {
      texts[event.index] = (texts[event.index] ?? '') + event.text;
      if (event.index > 0) continue;
      for (const { token, logprob } of event.logprobs ?? []) {
        tokens.push(token);
        logprobs.push(logprob);
      }
    } else if (event.type === 'finish') reasons[event.index] = event.reason;
    else if (event.type === 'end') {
      const { usage, timings, explanation } = event;
      const cached = tokensOf(usage.cachedTokens);
      return { texts, text: texts[0] ?? '', reasons, logprobs, tokens, usage, timings, explanation, cached };
    }
  }
  throw new Error('the answer has no end event');
}

/** Asks and reads the whole answer. */
export function ask({ service }: Backend, what: Ask): Promise<Answer> {
  return answerOf(service.complete(request(what)));
}
