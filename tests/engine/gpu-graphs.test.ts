/**
 * The step graph of GPUs run by the CPU, in both KV types: SwiftShader has no float16, so that what a GPU with it would
 * run is only seen here.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { consecutive } from '../../src/engine/feeds.js';
import { RotationTable } from '../../src/engine/rotation-table.js';
import { ATTENTION_NAMES } from '../../src/model/graphs/arena/attention.js';
import { ARENA_NAMES } from '../../src/model/graphs/arena/names.js';
import { STEP_NAMES } from '../../src/model/graphs/arena/step.js';
import { NAMES } from '../../src/model/graphs/trunk.js';
import { gpuFile, readManifest } from '../../src/model/manifest.js';
import { loadTinyModel } from '../support/golden.js';
import { importForTest, openSession } from '../support/model-session.js';
import { largestDifference } from '../support/scores.js';

const ARENA_ROWS = 64;
const KEYS = 32;

const int64 = (values: readonly number[], dims = [values.length]) =>
  new Tensor('int64', BigInt64Array.from(values, BigInt), dims);

for (const kvType of ['float16', 'float32'] as const) {
  test(`with KV in ${kvType} it gives the logits and rows of the prefill graph`, async (t) => {
    const directory = await importForTest(t, {
      path: loadTinyModel('chat').path,
      weights: 'float32',
      kvType,
    });
    const { spec } = await readManifest(directory);
    const session = await InferenceSession.create(join(directory, gpuFile('step', kvType)));
    const tokens = Int32Array.of(72, 101, 108, 108, 111, 32, 119, 111, 114, 108);
    const rows = tokens.length;
    // Every other row of the arena, from the end on, among NaNs.
    const places = Array.from({ length: rows }, (_, i) => ARENA_ROWS - 2 - 2 * i);
    const width = spec.kvHeads * spec.headDim;
    const { heads, kvHeads, headDim } = spec;
    const group = heads / kvHeads;
    const { cos, sin } = new RotationTable(spec.rope, headDim).at(consecutive(0, rows));
    const keyRows = new Int32Array(KEYS).fill(1);
    keyRows.set(places);
    const feeds: Record<string, Tensor> = {
      [NAMES.tokens]: int64([...tokens]),
      [NAMES.cos]: new Tensor('float32', cos, [rows, headDim / 2]),
      [NAMES.sin]: new Tensor('float32', sin, [rows, headDim / 2]),
      [NAMES.rotationRows]: int64([...consecutive(0, rows)], [1, rows]),
      [NAMES.logitRows]: int64([rows - 1]),
      [ATTENTION_NAMES.rowPositions]: new Tensor('int32', consecutive(0, rows), [1, 1, rows, 1]),
      [ATTENTION_NAMES.keyPositions]: new Tensor('int32', consecutive(0, KEYS), [1, KEYS]),
      [ATTENTION_NAMES.split]: int64([1, rows, kvHeads, group, headDim]),
      [ATTENTION_NAMES.grouped]: int64([1, kvHeads, group * rows, headDim]),
      [ATTENTION_NAMES.ungrouped]: int64([1, kvHeads, group, rows, headDim]),
      [ATTENTION_NAMES.keySplit]: int64([1, KEYS, kvHeads, headDim]),
      [ATTENTION_NAMES.byHead]: int64([1, heads, rows, KEYS]),
      [ATTENTION_NAMES.byGroup]: int64([1, kvHeads, group * rows, KEYS]),
      [STEP_NAMES.writeRows]: int64(places, [rows, 1]),
      [STEP_NAMES.keyRows]: new Tensor('int32', keyRows, [1, KEYS]),
      [STEP_NAMES.keyNumbers]: new Tensor('int32', consecutive(0, KEYS), [1, KEYS]),
      [STEP_NAMES.lastKey]: new Tensor('int32', Int32Array.of(rows - 1), [1, 1]),
    };
    const count = ARENA_ROWS * width;
    for (let section = 0; section < 2 * spec.layers; section++) {
      feeds[ARENA_NAMES.section(section)] =
        kvType === 'float16'
          ? new Tensor('float16', new Uint16Array(count).fill(0x7e01), [ARENA_ROWS, width])
          : new Tensor('float32', new Float32Array(count).fill(Number.NaN), [ARENA_ROWS, width]);
    }
    const outputs = await session.run(feeds);

    const reference = await openSession(directory);
    const run = reference.createRun(rows);
    const expected = await reference.runner.prefill(run, 0, tokens);
    const logits = outputs[NAMES.logits]!.data;
    assert(logits instanceof Float32Array && logits.every(Number.isFinite));
    assert(largestDifference(logits, expected) < 1e-3);
    const written = outputs[ARENA_NAMES.written(0)]!.data;
    assert(ArrayBuffer.isView(written));
    const { rowBytes } = reference.layout;
    const bytes = new Uint8Array(written.buffer, written.byteOffset, written.byteLength);
    for (const [row, place] of places.entries()) {
      const actual = bytes.subarray(place * rowBytes, (place + 1) * rowBytes);
      // The keys of the first layer depend on nothing that is summed in another order.
      assert.deepEqual(Buffer.from(actual), Buffer.from(run.rows(0, row, row + 1)), `row ${row}`);
    }
  });
}
