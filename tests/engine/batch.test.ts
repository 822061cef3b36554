/**
 * Decoding several sequences in one step against decoding each alone: logits, rows and greedy tokens.
 *
 * Every device run is filled with float16 or float32 NaNs first, so a row read beyond the end spoils the result.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { WeightsOption } from '../../src/config/options.js';
import { BatchDecoder, type DecodeRow } from '../../src/engine/batch-decoder.js';
import { DeviceRun, type RunBase } from '../../src/engine/device-run.js';
import { readManifest } from '../../src/model/manifest.js';
import { loadTinyModel, loadTinyModels, type TinyModel } from '../support/golden.js';
import { importForTest, type ModelSession, openSession, prefillTiles } from '../support/model-session.js';
import { argmax, largestDifference } from '../support/scores.js';

const STEPS = 6;
/** Rows that the sequences of a step begin with in common, and how many each has beyond them. */
const BATCHES = [
  { shared: 0, own: [5] },
  { shared: 0, own: [1, 9] },
  { shared: 0, own: [7, 1, 3] },
  { shared: 0, own: [2, 3, 5, 8, 9, 1, 4, 6] },
  { shared: 2, own: [1, 1] },
  { shared: 8, own: [3, 1, 7, 2, 5] },
  { shared: 10, own: [1, 2, 3, 4, 5, 6, 7, 1] },
];

interface Subject extends ModelSession {
  readonly decoder: BatchDecoder;
}

async function open(
  context: TestContext,
  { path }: TinyModel,
  weights: WeightsOption,
  kvType: 'float16' | 'float32',
): Promise<Subject> {
  const directory = await importForTest(context, { path, weights, kvType });
  const session = await openSession(directory, { threads: 1 });
  const { layout, runner } = session;
  const manifest = await readManifest(directory);
  const decoder = await BatchDecoder.create({ directory, manifest, layout, threads: 1, runner });
  return { ...session, decoder };
}

/** Sequences of a model's golden text, prefilled, and the token after each: `shared` equal ones, then others. */
function beginAll(
  subject: Subject,
  { tokens: text }: TinyModel,
  { shared, own }: { readonly shared: number; readonly own: readonly number[] },
): Promise<DecodeRow[]> {
  const begin = async (rows: number, index: number): Promise<DecodeRow> => {
    const position = shared + rows;
    const run = subject.createRun(position + STEPS);
    new Uint8Array(run.buffer).fill(0xff);
    const at = (i: number) => text[(i < shared ? i : i + index) % text.length]!;
    const tokens = Int32Array.from({ length: position }, (_, i) => at(i));
    await prefillTiles(subject, run, tokens, { ends: [position] });
    return { run, position, token: at(position) };
  };
  return Promise.all(own.map(begin));
}

const nextRow = ({ run, position }: DecodeRow, logits: Float32Array): DecodeRow => ({
  run,
  position: position + 1,
  token: argmax(logits),
});

for (const model of loadTinyModels()) {
  test(`${model.name}: in float32 a batch gives each sequence the logits and greedy tokens it has alone`, async (context) => {
    const subject = await open(context, model, 'float32', 'float32');
    for (const batch of BATCHES) {
      let together = await beginAll(subject, model, batch);
      let alone = await beginAll(subject, model, batch);
      for (let step = 0; step < STEPS; step++) {
        const batched = await subject.decoder.decode(together, batch.shared);
        const single: Float32Array[] = [];
        for (const { run, position, token } of alone) {
          single.push(await subject.runner.decode(run, position, token));
        }
        for (const [index, logits] of batched.entries()) {
          const difference = largestDifference(logits, single[index]!);
          const where = `row ${index} of ${batch.shared} + ${batch.own.join()}, step ${step}`;
          assert.ok(difference <= 1e-4, `${where}: off by ${difference}`);
        }
        together = together.map((row, index) => nextRow(row, batched[index]!));
        alone = alone.map((row, index) => nextRow(row, single[index]!));
        assert.deepEqual(
          together.map(({ token }) => token),
          alone.map(({ token }) => token),
        );
      }
    }
  });
}

for (const weights of ['float32', 'auto'] as const) {
  test(`${weights} weights: a row of a batch is the same bits whoever else is in it`, async (context) => {
    const model = loadTinyModel('chat');
    const subject = await open(context, model, weights, 'float16');
    for (const shared of [0, 8]) {
      const decode = async (own: readonly number[]) =>
        subject.decoder.decode(await beginAll(subject, model, { shared, own }), shared);
      const [expected] = await decode([7, 3]);
      for (const others of [[9], [1, 2], [2, 3, 5], [8, 1, 2, 3, 4, 5, 6]]) {
        assert.deepEqual((await decode([7, ...others]))[0], expected, `with ${others.join()}`);
      }
    }
  });
}

test('runs that stand on another one are decoded as if they had all rows themselves', async (context) => {
  const model = loadTinyModel('chat');
  const subject = await open(context, model, 'auto', 'float16');
  const { layout } = subject;
  const standing = ({ run, ...row }: DecodeRow, base: RunBase): DecodeRow => {
    const own = new ArrayBuffer((run.capacityTokens - base.rows) * layout.tokenBytes);
    const copy = new DeviceRun(layout, run.capacityTokens, own, base);
    copy.copyFrom(run, row.position);
    return { ...row, run: copy };
  };
  const own = [3, 5, 1, 4];
  // Common rows that end before, at and behind the end of a base.
  for (const [shared, baseRows] of [
    [0, 4],
    [4, 8],
    [8, 8],
    [10, 10],
    [10, 6],
  ] as const) {
    const batch = { shared: Math.max(shared, baseRows), own };
    const expected = await subject.decoder.decode(await beginAll(subject, model, batch), shared);
    const [first, ...others] = await beginAll(subject, model, batch);
    const base = { run: first!.run, rows: baseRows };
    const rows = [first!, ...others.map((row) => standing(row, base))];
    const logits = await subject.decoder.decode(rows, shared);
    assert.deepEqual(logits, expected, `${shared} common rows, a base of ${baseRows}`);
    const next = others.map((row, i) => standing({ ...row, position: row.position + 1, token: i }, base));
    for (const [i, { run, position, token }] of next.entries()) {
      const whole = { ...others[i]!, position, token };
      assert.deepEqual(
        await subject.runner.decode(run, position, token),
        await subject.runner.decode(whole.run, position, token),
      );
      const tokens = Int32Array.of(1, 2, 3);
      assert.deepEqual(
        await subject.runner.prefill(run, baseRows, tokens),
        await subject.runner.prefill(whole.run, baseRows, tokens),
      );
    }
  }
});

test('the common rows are read of one sequence alone', async (context) => {
  const model = loadTinyModel('chat');
  const subject = await open(context, model, 'auto', 'float16');
  const batch = { shared: 8, own: [3, 5, 1] };
  const expected = await subject.decoder.decode(await beginAll(subject, model, batch), batch.shared);
  const rows = await beginAll(subject, model, batch);
  for (const { run } of rows.slice(1)) {
    for (let section = 0; section < subject.layout.sections; section++) run.rows(section, 0, 8).fill(0xff);
  }
  assert.deepEqual(await subject.decoder.decode(rows, batch.shared), expected);
});

test('a sequence that is alone in its step is decoded by the decode graph, bit for bit', async (context) => {
  const model = loadTinyModel('chat');
  const subject = await open(context, model, 'auto', 'float16');
  const batch = { shared: 0, own: [6] };
  const [batched] = await subject.decoder.decode(await beginAll(subject, model, batch));
  const { run, position, token } = (await beginAll(subject, model, batch))[0]!;
  assert.deepEqual(batched, await subject.runner.decode(run, position, token));
});
