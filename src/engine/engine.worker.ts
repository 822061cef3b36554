/**
 * The engine's thread: owns the device and the samplers, and answers one request after another. It ends when the
 * device is lost. See protocol.ts.
 */
import assert from 'node:assert/strict';
import { parentPort, workerData } from 'node:worker_threads';
import { createChecksum, slotBytes } from '#storage';
import { messageOf } from '../errno.js';
import { readManifest } from '../model/manifest.js';
import { CpuDevice } from './cpu-device.js';
import { type Device, DeviceLost } from './device.js';
import type {
  EngineRequest,
  EngineResults,
  FromWorker,
  Op,
  SamplerId,
  SlotRows,
  ToWorker,
  WorkerOptions,
} from './protocol.js';
import { createSampler, type Sampler } from './sampler.js';
import { WebGpuDevice } from './webgpu/webgpu-device.js';

type Requests = { readonly [O in Op]: Extract<EngineRequest, { op: O }> };
type Handlers = {
  readonly [O in Op]: (request: Requests[O]) => EngineResults[O] | Promise<EngineResults[O]>;
};

assert(parentPort !== null, 'this file runs as a worker');
const port = parentPort;
const post = (message: FromWorker): void => port.postMessage(message);

function get<Id, T>(map: ReadonlyMap<Id, T>, id: Id): T {
  const found = map.get(id);
  assert(found !== undefined, `unknown id ${String(id)}`);
  return found;
}

function handle<O extends Op>(handlers: Handlers, op: O, request: Requests[O]) {
  return handlers[op](request);
}

async function createDevice(options: WorkerOptions): Promise<Device> {
  const { directory, threads, layout, device } = options;
  const manifest = await readManifest(directory);
  if (device.kind === 'webgpu') {
    return WebGpuDevice.create({ directory, manifest, layout, kvBytes: device.kvBytes });
  }
  return CpuDevice.create({ directory, manifest, layout, threads, provider: device.kind });
}

async function createHandlers(device: Device, { slab }: WorkerOptions): Promise<Handlers> {
  const checksum = await createChecksum();
  const samplers = new Map<SamplerId, Sampler>();
  const slot = (number: number): Uint8Array => {
    assert(slab !== undefined, 'there is a host tier');
    return slotBytes(slab, number);
  };
  const withBytes = <Slot extends SlotRows>(chunks: readonly Slot[]) =>
    chunks.map((chunk) => ({ ...chunk, bytes: slot(chunk.slot) }));
  return {
    createRun({ run, capacityTokens, base }) {
      device.createRun(run, capacityTokens, base);
    },
    rebaseRun({ run, base }) {
      device.rebaseRun(run, base);
    },
    async copyRun({ from, to, tokens }) {
      await device.copyRun(from, to, tokens);
    },
    freeRun({ run }) {
      device.freeRun(run);
    },
    createSampler({ sampler, params, vocab, drawn }) {
      samplers.set(sampler, createSampler(params, vocab, Math.random, drawn));
    },
    freeSampler({ sampler }) {
      samplers.delete(sampler);
    },
    async load({ run, chunks }) {
      const placed = withBytes(chunks);
      const corrupt = placed.findIndex((chunk) => checksum(chunk.bytes) !== chunk.checksum);
      const sound = corrupt < 0 ? placed : placed.slice(0, corrupt);
      await device.load(run, sound);
      return { loaded: sound.length };
    },
    async seal({ run, chunks }) {
      const places = withBytes(chunks);
      await device.seal(run, places);
      return { checksums: places.map(({ bytes }) => checksum(bytes)) };
    },
    async prefill({ run, start, tokens, samplers: wanted }) {
      const logits = await device.prefill(run, start, tokens);
      return { sampled: wanted.map((id) => get(samplers, id).sample(logits)) };
    },
    async gather({ from, to, rows, at }) {
      await device.gather(from, to, rows, at);
    },
    async scatter({ from, to, start, rows }) {
      await device.scatter(from, to, start, rows);
    },
    async rotate({ run, spans }) {
      await device.rotate(run, spans);
    },
    async prefillScattered({ run, tokens, positions, keys, samplers: wanted }) {
      const logits = await device.prefillScattered(run, { tokens, positions, keys });
      return { sampled: wanted.map((id) => get(samplers, id).sample(logits)) };
    },
    async score({ run, start, tokens, positions }) {
      return { attention: await device.score(run, start, { tokens, positions }) };
    },
    probe: ({ run, start, tokens }) => device.probe(run, start, tokens),
    async decode({ rows, sharedRows }) {
      const logits = await device.decode(rows, sharedRows);
      const sampled = rows.map(({ sampler }, i) => {
        const drawing = get(samplers, sampler);
        try {
          return drawing.sample(logits[i]!);
        } catch (error) {
          return { error: messageOf(error) };
        }
      });
      return { sampled };
    },
  };
}

async function main(): Promise<void> {
  const options: WorkerOptions = workerData;
  const failed = (error: unknown): never => {
    post({ type: 'failed', message: messageOf(error) });
    throw error;
  };
  const device = await createDevice(options).catch(failed);
  const handlers = await createHandlers(device, options);
  let last = Promise.resolve();
  const answer = async ({ id, request }: ToWorker): Promise<void> => {
    const start = performance.now();
    try {
      const result = await handle(handlers, request.op, request);
      const { bus } = device;
      post({ type: 'done', id, result, ms: performance.now() - start, ...(bus && { bus }) });
    } catch (error) {
      if (error instanceof DeviceLost) failed(error);
      post({ type: 'error', id, message: messageOf(error) });
    }
  };
  port.on('message', (message: ToWorker) => {
    // An error that gets through ends the thread.
    last = last.then(() => answer(message));
  });
  post({ type: 'ready' });
}

await main();
