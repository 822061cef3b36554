/**
 * The GPU as a device, beside the CPU: both are given the same requests. What is computed is near, what is moved is the
 * same bit for bit, and what crosses the bus is counted.
 */
import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import { Tensor } from 'onnxruntime-node';
import { type KvLayout, kvLayout } from '#storage';
import { CpuDevice } from '../../src/engine/cpu-device.js';
import { type ChunkRows, type Device, DeviceLost } from '../../src/engine/device.js';
import { BusMeter, GpuGraph } from '../../src/engine/webgpu/gpu-graph.js';
import { WebGpuDevice } from '../../src/engine/webgpu/webgpu-device.js';
import { KEEP_NAMES, keepGraph } from '../../src/model/graphs/arena/moves.js';
import { readManifest } from '../../src/model/manifest.js';
import { loadTinyModel } from '../support/golden.js';
import { importForTest } from '../support/model-session.js';
import { largestDifference } from '../support/scores.js';

const CHUNK_TOKENS = 16;
const TOLERANCE = 1e-4;
const BUDGET_TOKENS = 2048;

interface Devices {
  readonly gpu: WebGpuDevice;
  readonly cpu: CpuDevice;
  readonly layout: KvLayout;
  readonly vocab: number;
}

async function open(name: string, weights: 'float32' | 'auto' = 'float32'): Promise<Devices> {
  const options = { path: loadTinyModel(name).path, weights, kvType: 'float32' } as const;
  const directory = await importForTest({ after }, options);
  const manifest = await readManifest(directory);
  const { layers, kvHeads, headDim, vocab } = manifest.spec;
  const layout = kvLayout({ layers, kvHeads, headDim, chunkTokens: CHUNK_TOKENS, dtype: 'float32' });
  const kvBytes = BUDGET_TOKENS * layout.tokenBytes;
  return {
    gpu: await WebGpuDevice.create({ directory, manifest, layout, kvBytes }),
    cpu: await CpuDevice.create({ directory, manifest, layout, threads: 1, provider: 'cpu' }),
    layout,
    vocab,
  };
}

let nextRun = 0;

/** A run on each of the devices, of the same number. */
function createRun(devices: readonly Device[], tokens: number, base?: { run: number; rows: number }): number {
  const run = nextRun++;
  for (const device of devices) device.createRun(run, tokens, base);
  return run;
}

function freeRuns(devices: readonly Device[], ...runs: readonly number[]): void {
  for (const run of runs) for (const device of devices) device.freeRun(run);
}

function prompt(length: number, vocab: number, seed = 1): Int32Array {
  return Int32Array.from({ length }, (_, i) => (i * i * 7 + i * 13 * seed + 3) % vocab);
}

/** Rows `[start, end)` as they would lie in host slots. */
async function rowsOf(device: Device, { chunkBytes }: KvLayout, run: number, start: number, end: number) {
  const chunks: ChunkRows[] = [];
  for (let at = start; at < end; at += CHUNK_TOKENS) {
    const rows = Math.min(CHUNK_TOKENS, end - at);
    chunks.push({ bytes: new Uint8Array(chunkBytes), start: at, rows });
  }
  await device.seal(run, chunks);
  return chunks;
}

const rowOf = (device: Device, layout: KvLayout, run: number, row: number) =>
  rowsOf(device, layout, run, row, row + 1);

const bytesOf = async (device: Device, layout: KvLayout, run: number, row: number) =>
  (await rowOf(device, layout, run, row)).map((chunk) => chunk.bytes);

function floats(chunks: readonly ChunkRows[]): Float32Array {
  return Float32Array.from(chunks.flatMap(({ bytes }) => [...new Float32Array(bytes.buffer)]));
}

function assertClose(actual: Float32Array, expected: Float32Array, what: string): void {
  assert.equal(actual.length, expected.length);
  assert(actual.every(Number.isFinite), `${what} is finite`);
  const difference = largestDifference(actual, expected);
  assert(difference <= TOLERANCE, `${what}: off by ${difference}`);
}

const likeliest = (logits: Float32Array): number => logits.indexOf(Math.max(...logits));

/** Biases, normed heads, both pairings of rotated dimensions, blocks of 4 and 8 bits with and without offsets. */
for (const name of ['qwen2', 'qwen3', 'gguf-qwen2-mixed']) {
  test(`${name}: prefill and greedy decode are those of the CPU`, async () => {
    const { gpu, cpu, vocab } = await open(name);
    const tokens = prompt(70, vocab);
    const run = createRun([gpu, cpu], 256);
    let logits = await Promise.all([gpu, cpu].map((device) => device.prefill(run, 0, tokens)));
    for (let position = tokens.length; position < tokens.length + 4; position++) {
      const drawn = logits.map(likeliest);
      assert.equal(drawn[0], drawn[1]);
      const row = { run, position, token: drawn[1]! };
      logits = (await Promise.all([gpu, cpu].map((device) => device.decode([row], 0)))).flat();
    }
  });
}

suite('the tiny chat model', async () => {
  const { gpu, cpu, layout, vocab } = await open('chat');
  const both = [gpu, cpu];

  test('logits and rows of prefill are those of the CPU', async () => {
    const tokens = prompt(150, vocab);
    const run = createRun(both, 256);
    const [onGpu, onCpu] = await Promise.all(both.map((device) => device.prefill(run, 0, tokens)));
    assertClose(onGpu!, onCpu!, 'logits');
    const [gpuRows, cpuRows] = await Promise.all(both.map((device) => rowsOf(device, layout, run, 0, 150)));
    assertClose(floats(gpuRows!), floats(cpuRows!), 'rows');
    freeRuns(both, run);
  });

  test('a row is the same bit for bit however the prompt is cut into tiles, and wherever it lies', async () => {
    const tokens = prompt(300, vocab);
    const filled = async (ends: readonly number[]) => {
      const run = createRun([gpu], 512);
      let logits: Float32Array | undefined;
      for (const [i, end] of ends.entries()) {
        const start = ends[i - 1] ?? 0;
        logits = await gpu.prefill(run, start, tokens.slice(start, end));
      }
      const rows = await rowsOf(gpu, layout, run, 0, 300);
      freeRuns([gpu], run);
      return { logits, rows };
    };
    const expected = await filled([300]);
    for (const ends of [
      [1, 2, 300],
      [64, 128, 192, 256, 300],
      [33, 255, 256, 257, 300],
    ]) {
      const other = createRun([gpu], 64);
      assert.deepEqual(await filled(ends), expected, ends.join());
      freeRuns([gpu], other);
    }
  });

  test('rows go to the host and come back the same, and that is what crosses the bus', async () => {
    const run = createRun([gpu], 256);
    await gpu.prefill(run, 0, prompt(151, vocab));
    const before = gpu.bus;
    const sealed = await rowsOf(gpu, layout, run, 0, 151);
    assert.equal(gpu.bus.kvDown - before.kvDown, 151 * layout.tokenBytes);
    const copy = createRun([gpu], 256);
    await gpu.load(copy, sealed);
    assert.equal(gpu.bus.kvUp - before.kvUp, 151 * layout.tokenBytes);
    assert.deepEqual(await rowsOf(gpu, layout, copy, 0, 151), sealed);
    const again = createRun([gpu], 256);
    await gpu.prefill(again, 0, prompt(120, vocab));
    const next = { position: 120, token: 7 };
    const [onLoaded] = await gpu.decode([{ run: copy, ...next }]);
    const [onComputed] = await gpu.decode([{ run: again, ...next }]);
    assert.deepEqual(onLoaded, onComputed);
    freeRuns([gpu], run, copy, again);
  });

  test('a decoded token takes less than its logits and one KV row over the bus', async () => {
    const run = createRun([gpu], 512);
    await gpu.prefill(run, 0, prompt(200, vocab));
    const total = () => Object.values(gpu.bus).reduce((sum, bytes) => sum + bytes, 0);
    const [before, bytes] = [gpu.bus, total()];
    const steps = 80;
    for (let i = 0; i < steps; i++) await gpu.decode([{ run, position: 200 + i, token: 9 }]);
    assert((total() - bytes) / steps <= vocab * 4 + layout.tokenBytes, String((total() - bytes) / steps));
    assert.equal(gpu.bus.logitsDown - before.logitsDown, steps * vocab * 4);
    assert.deepEqual([gpu.bus.kvUp, gpu.bus.kvDown], [before.kvUp, before.kvDown], 'KV stays where it is');
    freeRuns([gpu], run);
  });

  test('copies, bases, gathered and scattered rows are the rows they were', async () => {
    const tokens = prompt(100, vocab);
    const source = createRun(both, 256);
    const rows = Int32Array.of(5, 99, 4, 3, 50);
    const standing = createRun(both, 256 + 48, { run: source, rows: 48 });
    const target = createRun(both, 256);
    const moved = createRun(both, 256);
    for (const device of both) {
      await device.prefill(source, 0, tokens);
      await device.copyRun(source, standing, 100);
      await device.gather(standing, target, rows, 2);
      await device.scatter(source, target, 60, rows);
      await device.copyRun(source, moved, 60);
      device.rebaseRun(standing, moved);
    }
    for (let row = 0; row < 100; row++) {
      assert.deepEqual(
        await bytesOf(gpu, layout, standing, row),
        await bytesOf(gpu, layout, source, row),
        `standing ${row}`,
      );
    }
    for (const [i, row] of rows.entries()) {
      assert.deepEqual(
        await bytesOf(gpu, layout, target, row),
        await bytesOf(gpu, layout, source, 60 + i),
        `scattered ${row}`,
      );
      if (rows.includes(2 + i)) continue;
      assert.deepEqual(
        await bytesOf(gpu, layout, target, 2 + i),
        await bytesOf(gpu, layout, source, row),
        `gathered ${row}`,
      );
    }
    for (const run of [standing, target, source]) {
      const [onGpu, onCpu] = await Promise.all(both.map((device) => rowOf(device, layout, run, 5)));
      assertClose(floats(onGpu!), floats(onCpu!), 'as on the CPU');
    }
    freeRuns(both, standing, target, moved, source);
  });

  test('a batch decodes what its sequences would alone, also those that stand on others', async () => {
    const base = createRun(both, 256);
    for (const device of both) await device.prefill(base, 0, prompt(64, vocab));
    const runs = [40, 0, 130].map((more, i) => {
      const shared = i === 1 ? undefined : { run: base, rows: 64 };
      return { run: createRun(both, 512, shared), length: 64 + more };
    });
    for (const device of both) {
      for (const [i, { run, length }] of runs.entries()) {
        const start = i === 1 ? 0 : 64;
        if (start < length) await device.prefill(run, start, prompt(length, vocab).slice(start));
      }
    }
    const rows = runs.map(({ run, length }, i) => ({ run, position: length, token: 20 + i }));
    const [onGpu, onCpu] = await Promise.all(both.map((device) => device.decode(rows, 0)));
    for (const [i, row] of rows.entries()) {
      assertClose(onGpu![i]!, onCpu![i]!, `row ${i}`);
      assertClose((await gpu.decode([row]))[0]!, onGpu![i]!, `row ${i} alone`);
    }
    freeRuns(both, ...runs.map(({ run }) => run), base);
  });

  test('keys that are moved, and rows computed between others, are those of the CPU', async () => {
    const tokens = prompt(90, vocab);
    const stored = createRun(both, 256);
    const placed = createRun(both, 256);
    const gathered = createRun(both, 256);
    const positions = Int32Array.of(0, 3, 41, 60, 61, 62);
    const past = Int32Array.from({ length: 60 }, (_, i) => i).filter((row) => !positions.includes(row));
    const results = [];
    for (const device of both) {
      await device.prefill(stored, 0, tokens.slice(10, 60));
      await device.prefill(placed, 0, tokens.slice(0, 10));
      await device.scatter(
        stored,
        placed,
        0,
        Int32Array.from({ length: 50 }, (_, i) => 10 + i),
      );
      await device.rotate(placed, [{ start: 10, end: 60, storedStart: 0 }]);
      await device.gather(placed, gathered, past, 0);
      const keys = Int32Array.of(...past, ...positions);
      const chosen = { tokens: Int32Array.from(positions, (at) => tokens[at]!), positions };
      const logits = await device.prefillScattered(gathered, { ...chosen, keys });
      const rows = floats(await rowsOf(device, layout, gathered, 0, keys.length));
      results.push({ logits, rows, placed: floats(await rowsOf(device, layout, placed, 0, 60)) });
    }
    const [onGpu, onCpu] = results;
    assertClose(onGpu!.placed, onCpu!.placed, 'moved keys');
    assertClose(onGpu!.logits, onCpu!.logits, 'logits');
    assertClose(onGpu!.rows, onCpu!.rows, 'rows');
    freeRuns(both, stored, placed, gathered);
  });

  test('what selectors are told is what the CPU tells them', async () => {
    const tokens = prompt(80, vocab);
    const run = createRun(both, 256);
    const measured = [];
    for (const device of both) {
      await device.prefill(run, 0, tokens.slice(0, 40));
      await device.prefill(run, 40, tokens.slice(10, 50));
      const question = {
        tokens: tokens.slice(70),
        positions: Int32Array.from({ length: 10 }, (_, i) => 80 + i),
      };
      const mass = await device.score(run, 80, question);
      measured.push({ mass, ...(await device.probe(run, 40, tokens.slice(40))) });
    }
    const [onGpu, onCpu] = measured;
    assert(onCpu!.k[0]! > 0.01, 'this test can tell');
    for (const of of ['mass', 'k', 'v', 'freshK', 'freshV'] as const) assertClose(onGpu![of], onCpu![of], of);
    freeRuns(both, run);
  });

  test('memory that was freed is never read, whatever lies in it', async () => {
    const tokens = prompt(70, vocab);
    const clean = createRun([gpu], 256);
    const expected = await gpu.prefill(clean, 0, tokens);
    freeRuns([gpu], clean);
    const poisoned = createRun([gpu], BUDGET_TOKENS);
    const bytes = new Uint8Array(layout.chunkBytes).fill(0xff);
    for (let start = 0; start < BUDGET_TOKENS; start += CHUNK_TOKENS) {
      await gpu.load(poisoned, [{ bytes, start, rows: CHUNK_TOKENS }]);
    }
    freeRuns([gpu], poisoned);
    const run = createRun([gpu], 256);
    assert.deepEqual(await gpu.prefill(run, 0, tokens), expected);
    freeRuns([gpu], run);
  });

  test('no more rows are given out than the budget has, and freed ones again', () => {
    for (const _ of [1, 2]) {
      const run = createRun([gpu], BUDGET_TOKENS);
      assert.throws(() => createRun([gpu], 64), /budget/);
      freeRuns([gpu], run);
    }
  });

  test('a graph that fails is the loss of the device', async () => {
    const graph = await GpuGraph.open(keepGraph('int32'), new BusMeter());
    const value = new Tensor('float32', Float32Array.of(1), [1, 1]);
    await assert.rejects(graph.run({ [KEEP_NAMES.value]: value }, {}), DeviceLost);
  });
});
