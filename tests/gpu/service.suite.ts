/** The whole service with the GPU as its device tier, over the tiny chat model. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { chooseDevice, type ProbeResult, probeDevice, whyNotAuto } from '../../src/engine/device-probe.js';
import { importModel } from '../../src/model/importer.js';
import { DEFAULT_CACHE, tokensOf } from '../../src/serving/completion.js';
import { createMetrics } from '../../src/serving/metrics.js';
import {
  type Ask,
  ask,
  TINY_CHUNK_BYTES,
  TINY_MODEL,
  TINY_TOKEN_BYTES,
  testBackend,
} from '../support/backend.js';

const made: string[] = [];
after(() => Promise.all(made.map((path) => rm(path, { recursive: true, force: true }))));

async function directory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'radixkv-gpu-'));
  made.push(path);
  return path;
}

const PROMPT =
  'A prompt of several chunks of sixteen tokens each, so that there is something to keep. '.repeat(2);
const LOGPROBS = { sampling: { topLogprobs: 0 }, maxTokens: 12 };

/** KV in float32 on either device, so that what differs is rounding alone. */
const modelDirectory = await directory();
await importModel({ path: TINY_MODEL, directory: modelDirectory, weights: 'float32', kvType: 'float32' });
const gpu = await chooseDevice('webgpu');
/** Float32 takes twice the bytes. */
const BUDGETS = { deviceBytes: 2 * 2048 * TINY_TOKEN_BYTES, hostBytes: 2 * 256 * TINY_CHUNK_BYTES };

type Backends = Parameters<typeof testBackend>[1];

/** @param onGpu false: the same service on the CPU */
async function start(t: TestContext, options: Backends = {}, onGpu = true) {
  const chosenDevice = onGpu ? gpu : ({ kind: 'cpu' } as const);
  return testBackend(t, { modelDirectory, ...BUDGETS, chosenDevice, ...options });
}

test('answers are those of the CPU, KV stays on the GPU, and a hit is a miss bit for bit', async (t) => {
  const backend = await start(t);
  const cpu = await start(t, {}, false);
  const what: Ask = { prompt: PROMPT, ...LOGPROBS };
  const miss = await ask(backend, what);
  assert.equal(miss.text, (await ask(cpu, what)).text);
  const before = backend.engine.bus!;
  const hit = await ask(backend, what);
  assert.equal(hit.cached, PROMPT.length - 1);
  assert.deepEqual(hit.logprobs, miss.logprobs);
  const { kvUp } = backend.engine.bus!;
  assert.equal(kvUp, before.kvUp, 'what is on the device is not sent there again');
  const answers = await Promise.all([1, 2, 3].map((i) => ask(backend, { prompt: `${i} ${PROMPT}` })));
  for (const [i, answer] of answers.entries()) {
    assert.equal(answer.text, (await ask(cpu, { prompt: `${i + 1} ${PROMPT}` })).text);
  }
  await backend.scheduler.idle();
  backend.cache.audit();
  const { bytes, capacityBytes } = backend.cache.reading().device;
  assert(bytes > 0 && bytes <= capacityBytes);
  assert.equal(cpu.engine.bus, undefined);
});

test('what left the device comes back from host memory, and from disk after a restart, bit for bit', async (t) => {
  const path = await directory();
  const disk = { directory: path, capacityBytes: 64 * 2 ** 20, freeBytesMin: 0, codec: 'auto' } as const;
  const before = await start(t, { disk });
  const what: Ask = { prompt: PROMPT, ...LOGPROBS };
  const cold = await ask(before, what);
  await before.scheduler.idle();
  before.cache.dropWarm();
  const sent = before.engine.bus!.kvUp;
  const warm = await ask(before, what);
  assert(warm.usage.cachedTokens.host >= PROMPT.length - 16);
  assert(before.engine.bus!.kvUp > sent);
  assert.deepEqual(warm.logprobs, cold.logprobs);
  const metrics = await createMetrics(before.statistics).scrape();
  assert.match(metrics, /radixkv_device_bus_bytes_total\{direction="to_device",kind="kv"\} [1-9]/);
  await before.close();

  const onCpu = await start(t, { disk }, false);
  await onCpu.cache.opened;
  assert.equal(
    (await ask(onCpu, { prompt: PROMPT })).cached,
    0,
    'the KV of one device is not that of another',
  );
  await onCpu.close();
  const restarted = await start(t, { disk });
  await restarted.cache.opened;
  const again = await ask(restarted, what);
  assert(again.usage.cachedTokens.disk >= PROMPT.length - 16);
  assert.deepEqual(again.logprobs, cold.logprobs);
});

test('when the device is lost, a stream goes on where it was, with its KV from host memory', async (t) => {
  const lost = new Int32Array(new SharedArrayBuffer(4));
  let workers = 0;
  const createWorker: NonNullable<Backends>['createWorker'] = (options) => {
    workers++;
    return new Worker(new URL('./failing.worker.js', import.meta.url), { workerData: { ...options, lost } });
  };
  const backend = await start(t, { createWorker });
  const what: Ask = { prompt: PROMPT, maxTokens: 40, sampling: { frequencyPenalty: 0.5 } };
  const undisturbed = await ask(backend, { ...what, namespace: 'undisturbed' });
  const under = ask(backend, what);
  while (backend.engine.bus!.logitsDown < 260 * 4 * 60)
    await new Promise((resolve) => setTimeout(resolve, 20));
  Atomics.store(lost, 0, 1);
  const answer = await under;
  assert.equal(answer.text, undisturbed.text);
  assert.equal(answer.usage.completionTokens, 40);
  assert.deepEqual([workers, backend.scheduler.retries], [2, 1]);
  assert.equal((await ask(backend, what)).text, undisturbed.text);
  await backend.scheduler.idle();
  backend.cache.audit();
});

test('documents are blended on the device', async (t) => {
  const backend = await start(t, { chunkTokens: 16 });
  const documents = ['The lamp of the tower burns oil.', 'A boat brings flour on the first day.'].map(
    (text) => {
      return { id: undefined, title: undefined, text };
    },
  );
  const messages = [{ role: 'user', content: 'When does the boat come?' }] as const;
  const cache = { mode: 'blend', recomputeRatio: 0.3, explain: true } as const;
  const blended = (content: string) => {
    const prompt = { kind: 'chat', messages: [{ ...messages[0], content }], documents } as const;
    return ask(backend, { prompt, cache: { ...DEFAULT_CACHE, ...cache } });
  };
  await blended('When does the boat come?');
  const { explanation, usage } = await blended('Who lights the lamp of the tower?');
  assert.equal(explanation!.outcome, 'blended');
  assert(tokensOf(usage.blendedTokens) > 0);
  assert(backend.engine.bus!.measuresDown > 0, 'a selector measured');
});

test('a driver that computes on the CPU is not what auto takes, and one that can not be had is refused', async () => {
  const probe = await probeDevice({ provider: 'webgpu', measures: false });
  assert(probe.works);
  const { VK_ICD_FILENAMES: driver } = process.env;
  if (driver !== undefined) {
    assert.match(probe.adapter!, /SwiftShader/);
    assert.match(whyNotAuto(probe)!, /on the CPU/);
  }
  await assert.rejects(chooseDevice('cuda'), /--device cuda can't be used/);
  const crashed: ProbeResult = { works: false, reason: 'its process ended with SIGSEGV' };
  await assert.rejects(
    chooseDevice('webgpu', async () => crashed),
    /SIGSEGV/,
  );
  assert.deepEqual(await chooseDevice('auto', async () => crashed), { kind: 'cpu' });
  const quick: ProbeResult = {
    works: true,
    digest: 'a',
    hasFloat16: true,
    ms: 1,
    cpuMs: 10,
    adapter: 'A GPU',
  };
  assert.deepEqual(await chooseDevice('auto', async () => quick), {
    kind: 'webgpu',
    digest: 'a',
    hasFloat16: true,
    adapter: 'A GPU',
  });
  assert.match(whyNotAuto({ ...quick, cpuMs: 1.5 })!, /not quicker/);
});
