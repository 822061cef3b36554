/**
 * The engine's thread: owns the ONNX Runtime sessions, the device runs and the samplers, and answers one request
 * after another. See protocol.ts.
 */
import assert from 'node:assert/strict';
import { parentPort, workerData } from 'node:worker_threads';
import { createChecksum, slotBytes } from '#storage';
import { messageOf } from '../errno.js';
import { readManifest } from '../model/manifest.js';
import { BatchDecoder } from './batch-decoder.js';
import { BlendRunner } from './blend-runner.js';
import { DeviceRun } from './device-run.js';
import { GraphRunner } from './graph-runner.js';
import type {
  EngineRequest,
  EngineResults,
  FromWorker,
  Op,
  RunId,
  SamplerId,
  ToWorker,
  WorkerOptions,
} from './protocol.js';
import { createSampler, type Sampler } from './sampler.js';

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

async function createHandlers(options: WorkerOptions): Promise<Handlers> {
  const { directory, threads, layout, slab } = options;
  const checksum = await createChecksum();
  const manifest = await readManifest(directory);
  const runner = await GraphRunner.create({ directory, manifest, layout, threads });
  const blendRunner = new BlendRunner({ directory, manifest, layout, threads });
  const decoder = await BatchDecoder.create({ directory, manifest, layout, threads, runner });
  const runs = new Map<RunId, DeviceRun>();
  const samplers = new Map<SamplerId, Sampler>();
  const slot = (number: number): Uint8Array => {
    assert(slab !== undefined, 'there is a host tier');
    return slotBytes(slab, number);
  };
  return {
    createRun({ run, capacityTokens, base }) {
      const bytes = (capacityTokens - (base?.rows ?? 0)) * layout.tokenBytes;
      const rows = base && { run: get(runs, base.run), rows: base.rows };
      runs.set(run, new DeviceRun(layout, capacityTokens, new ArrayBuffer(bytes), rows));
    },
    rebaseRun({ run, base }) {
      get(runs, run).rebase(get(runs, base));
    },
    copyRun({ from, to, tokens }) {
      get(runs, to).copyFrom(get(runs, from), tokens);
    },
    freeRun({ run }) {
      runs.delete(run);
    },
    createSampler({ sampler, params, vocab }) {
      samplers.set(sampler, createSampler(params, vocab, Math.random));
    },
    freeSampler({ sampler }) {
      samplers.delete(sampler);
    },
    load({ run, chunks }) {
      const target = get(runs, run);
      for (const [index, chunk] of chunks.entries()) {
        const bytes = slot(chunk.slot);
        if (checksum(bytes) !== chunk.checksum) return { loaded: index };
        target.load(bytes, chunk.start, chunk.rows);
      }
      return { loaded: chunks.length };
    },
    seal({ run, chunks }) {
      const from = get(runs, run);
      const checksums = chunks.map((chunk) => {
        const bytes = slot(chunk.slot);
        from.seal(bytes, chunk.start, chunk.rows);
        return checksum(bytes);
      });
      return { checksums };
    },
    async prefill({ run, start, tokens, samplers: wanted }) {
      const logits = await runner.prefill(get(runs, run), start, tokens);
      return { sampled: wanted.map((id) => get(samplers, id).sample(logits)) };
    },
    gather({ from, to, rows, at }) {
      get(runs, to).gather(get(runs, from), rows, at);
    },
    scatter({ from, to, start, rows }) {
      get(runs, to).scatter(get(runs, from), start, rows);
    },
    async rotate({ run, spans }) {
      await blendRunner.rotate(get(runs, run), spans);
    },
    async prefillScattered({ run, tokens, positions, keys, samplers: wanted }) {
      const logits = await runner.prefillScattered(get(runs, run), { tokens, positions, keys });
      return { sampled: wanted.map((id) => get(samplers, id).sample(logits)) };
    },
    async score({ run, start, tokens, positions }) {
      return { attention: await blendRunner.score(get(runs, run), start, { tokens, positions }) };
    },
    probe: ({ run, start, tokens }) => blendRunner.probe(get(runs, run), start, tokens),
    async decode({ rows, sharedRows }) {
      const logits = await decoder.decode(
        rows.map((row) => ({ ...row, run: get(runs, row.run) })),
        sharedRows,
      );
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
  const handlers = await createHandlers(options).catch((error: unknown) => {
    post({ type: 'failed', message: messageOf(error) });
    throw error;
  });
  let last = Promise.resolve();
  const answer = async ({ id, request }: ToWorker): Promise<void> => {
    const start = performance.now();
    try {
      const result = await handle(handlers, request.op, request);
      post({ type: 'done', id, result, ms: performance.now() - start });
    } catch (error) {
      post({ type: 'error', id, message: messageOf(error) });
    }
  };
  port.on('message', (message: ToWorker) => {
    last = last.then(() => answer(message));
  });
  post({ type: 'ready' });
}

await main();
