/**
 * The engine's part of blending on tiny models, in float32: what is computed at scattered positions is what a full
 * prefill computes there, keys are moved as `#blend` moves them, and measurements are of what they are said to be.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { reusedTokens, ropeFrequencies, rotateKeys, SELECTORS, tokenDeviations } from '#blend';
import { BlendSession, type Prompt } from '../../src/calibration/blend-session.js';
import type { DeviceRun } from '../../src/engine/device-run.js';
import { decodeHalf } from '../../src/model/half.js';
import { loadTinyModel } from '../support/golden.js';
import { importForTest } from '../support/model-session.js';
import { largestDifference } from '../support/scores.js';

/** Both pairings of rotated dimensions, scaled frequencies, biases, normed heads. */
const MODELS = ['gguf-llama-f16', 'llama-rope-llama3', 'qwen2', 'qwen3'];
const TOLERANCE = 1e-4;
const PROMPT_TOKENS = 41;
/** Bounds of segments; the last part is the question. */
const BOUNDS = [0, 9, 20, 33];

async function open(
  t: TestContext,
  name: string,
  { kvType = 'float32', tileRows = 64 }: { kvType?: 'float16' | 'float32'; tileRows?: number } = {},
): Promise<BlendSession> {
  const { path } = loadTinyModel(name);
  const directory = await importForTest(t, { path, weights: 'float32', kvType });
  return BlendSession.open({ directory, threads: 1, tileRows });
}

/** A prompt of known segments and a question. Segments from `from` on are stored, each prefilled alone at 0. */
async function promptOf(session: BlendSession, from = 0): Promise<Prompt> {
  const { vocab } = session.manifest.spec;
  const tokens = Int32Array.from({ length: PROMPT_TOKENS }, (_, i) => (i * i * 7 + i * 13 + 3) % vocab);
  const segments = await Promise.all(
    BOUNDS.slice(from, -1).map(async (start, i) => {
      const end = BOUNDS[from + i + 1]!;
      const run = session.createRun(end - start);
      await session.prefill(run, tokens.slice(start, end));
      return { start, end, storedStart: 0, run };
    }),
  );
  return { tokens, segments };
}

async function full(
  session: BlendSession,
  { tokens }: Prompt,
): Promise<{ readonly run: DeviceRun; readonly logits: Float32Array }> {
  const run = session.createRun(tokens.length + 2);
  return { run, logits: await session.prefill(run, tokens) };
}

/** The rows of a prompt as a blend finds them: prefix and segments in place, NaN elsewhere. */
async function reused(session: BlendSession, prompt: Prompt) {
  const run = session.createRun(prompt.tokens.length + 2);
  poison(
    session,
    run,
    Int32Array.from({ length: run.capacityTokens }, (_, i) => i),
  );
  const layout = session.layoutOf(prompt);
  session.place(run, prompt, layout);
  await session.blender.rotate(run, layout.reused);
  return { run, layout };
}

function poison(session: BlendSession, run: DeviceRun, positions: Int32Array): void {
  for (let section = 0; section < session.layout.sections; section++) {
    for (const position of positions) run.rows(section, position, position + 1).fill(0xff);
  }
}

function floats(session: BlendSession, run: DeviceRun, section: number, [start, end]: [number, number]) {
  assert.equal(session.layout.dtype, 'float32');
  return new Float32Array(run.rows(section, start, end).slice().buffer);
}

function assertClose(actual: Float32Array, expected: Float32Array, what: string): void {
  assert.equal(actual.length, expected.length);
  const difference = largestDifference(actual, expected);
  assert.ok(difference <= TOLERANCE, `${what}: off by ${difference}`);
}

function assertSameRows(session: BlendSession, actual: DeviceRun, expected: DeviceRun, what: string): void {
  for (let section = 0; section < session.layout.sections; section++) {
    const rows: [number, number] = [0, PROMPT_TOKENS];
    const [a, b] = [actual, expected].map((run) => floats(session, run, section, rows));
    assertClose(a!, b!, `${what}, section ${section}`);
  }
}

for (const name of MODELS) {
  test(`${name}: recomputing all reused tokens equals full prefill`, async (t) => {
    const session = await open(t, name);
    const prompt = await promptOf(session);
    const expected = await full(session, prompt);
    const { run, layout } = await reused(session, prompt);
    const choice = { selector: SELECTORS.all(), ratio: 1 };
    const chosen = await session.select(run, prompt, layout, choice);
    assert.equal(chosen.length, reusedTokens(layout).positions.length);
    const logits = await session.recompute(run, prompt, layout, chosen);
    assertClose(logits, expected.logits, 'logits');
    assertSameRows(session, run, expected.run, 'rows');
  });

  test(`${name}: recomputing none is plain reuse of moved keys`, async (t) => {
    const session = await open(t, name);
    const { spec } = session.manifest;
    const prompt = await promptOf(session);
    const { run, layout } = await reused(session, prompt);
    const plain = session.createRun(PROMPT_TOKENS + 2);
    session.place(plain, prompt, layout);
    const frequencies = ropeFrequencies(spec.rope, spec.headDim);
    for (const { start, end, storedStart } of layout.reused) {
      const shift = { positions: start - storedStart, frequencies, interleaved: spec.rope.interleaved };
      for (let section = 0; section < session.layout.sections; section += 2) {
        const moved = rotateKeys(floats(session, plain, section, [start, end]), shift);
        plain.rows(section, start, end).set(new Uint8Array(moved.buffer));
      }
    }
    const question = layout.newSpans[0]!.start;
    const expected = await session.prefill(plain, prompt.tokens, question);
    const chosen = await session.select(run, prompt, layout, { selector: SELECTORS.none(), ratio: 0.5 });
    assertClose(await session.recompute(run, prompt, layout, chosen), expected, 'logits');
    assertSameRows(session, run, plain, 'rows');
    const exact = await full(session, prompt);
    assert.ok(largestDifference(expected, exact.logits) > 10 * TOLERANCE, 'plain reuse is not full prefill');
  });

  test(`${name}: reusing only the first segment equals full prefill`, async (t) => {
    const session = await open(t, name);
    const whole = await promptOf(session);
    const prompt = { ...whole, segments: whole.segments.slice(0, 1) };
    const expected = await full(session, prompt);
    const { run, layout } = await reused(session, prompt);
    assert.equal(layout.prefixTokens, BOUNDS[1]);
    assertClose(await session.recompute(run, prompt, layout, new Int32Array()), expected.logits, 'logits');
    assertSameRows(session, run, expected.run, 'rows');
  });

  for (const tileRows of [64, 5]) {
    test(`${name}: scattered rows over exact ones equal full prefill, tiles of ${tileRows}`, async (t) => {
      const session = await open(t, name, { tileRows });
      const prompt = await promptOf(session, 1);
      const expected = await full(session, prompt);
      const layout = session.layoutOf(prompt);
      const chosen = reusedTokens(layout).positions.filter((position) => position % 3 !== 1);
      const run = session.createRun(PROMPT_TOKENS);
      run.copyFrom(expected.run, PROMPT_TOKENS);
      poison(session, run, chosen); // stale copies must not be seen
      poison(
        session,
        run,
        Int32Array.from({ length: PROMPT_TOKENS - 33 }, (_, i) => 33 + i),
      );
      assertClose(await session.recompute(run, prompt, layout, chosen), expected.logits, 'logits');
      assertSameRows(session, run, expected.run, 'rows');
    });
  }

  test(`${name}: recomputing all from a token on, over reused ones, equals prefill behind them`, async (t) => {
    const session = await open(t, name);
    const prompt = await promptOf(session);
    const { run, layout } = await reused(session, prompt);
    const from = 24;
    const plain = session.createRun(PROMPT_TOKENS + 2);
    plain.copyFrom(run, PROMPT_TOKENS);
    const expected = await session.prefill(plain, prompt.tokens, from);
    const chosen = reusedTokens(layout).positions.filter((position) => position >= from);
    assert(chosen.length > 0 && chosen.length < reusedTokens(layout).positions.length);
    assertClose(await session.recompute(run, prompt, layout, chosen), expected, 'logits');
    assertSameRows(session, run, plain, 'rows');
  });

  test(`${name}: the probe's deviations are those of a full prefill's second layer`, async (t) => {
    const session = await open(t, name);
    const prompt = await promptOf(session);
    const expected = await full(session, prompt);
    const { run } = await reused(session, prompt);
    const rowWidth = session.layout.rowBytes / 4;
    const [start, end] = [9, 32];
    const cached = [2, 3].map((section) => floats(session, run, section, [start, end]));
    const measured = await session.blender.probe(run, start, prompt.tokens.subarray(start, end));
    for (const [i, section] of [2, 3].entries()) {
      const fresh = floats(session, expected.run, section, [start, end]);
      const distances = Float32Array.from(tokenDeviations(fresh, cached[i]!, { rowWidth }));
      assertClose(i === 0 ? measured.k : measured.v, distances, `distances of section ${section}`);
      const norms = Float32Array.from(tokenDeviations(fresh, new Float32Array(fresh.length), { rowWidth }));
      assertClose(i === 0 ? measured.freshK : measured.freshV, norms, `norms of section ${section}`);
      assert.ok(Math.max(...distances) > 0.01, 'there is something to measure');
    }
  });

  test(`${name}: the score of a question is the sum of its rows' attention`, async (t) => {
    const session = await open(t, name);
    const prompt = await promptOf(session);
    const { run } = await full(session, prompt);
    const question = (start: number, end: number) => ({
      tokens: prompt.tokens.slice(start, end),
      positions: Int32Array.from({ length: end - start }, (_, i) => start + i),
    });
    const together = await session.blender.score(run, 33, question(33, PROMPT_TOKENS));
    const summed = new Float32Array(33);
    for (let row = 33; row < PROMPT_TOKENS; row++) {
      const mass = await session.blender.score(run, row, question(row, row + 1));
      for (let i = 0; i < 33; i++) summed[i]! += mass[i]!;
    }
    assertClose(together, summed, 'mass');
    const { layers, heads } = session.manifest.spec;
    const total = together.reduce((sum, mass) => sum + mass, 0);
    const most = layers * heads * (PROMPT_TOKENS - 33);
    assert.ok(total > 0.3 * most && total < most, `mass ${total} of ${most}`);
  });
}

const isMoved = (position: number): boolean =>
  (position >= 8 && position < 11) || (position >= 15 && position < 19);

test('a rotation leaves the bits of rows between the spans, and of spans that stay where they were', async (t) => {
  for (const kvType of ['float16', 'float32'] as const) {
    const session = await open(t, 'chat', { kvType });
    const run = session.createRun(20);
    await session.prefill(
      run,
      Int32Array.from({ length: 20 }, (_, i) => 30 + i),
    );
    const before = run.buffer.slice(0);
    const spans = [
      { start: 2, end: 5, storedStart: 2 },
      { start: 8, end: 11, storedStart: 3 },
      { start: 15, end: 19, storedStart: 40 },
    ];
    await session.blender.rotate(run, spans);
    const original = session.createRun(20);
    new Uint8Array(original.buffer).set(new Uint8Array(before));
    for (let section = 0; section < session.layout.sections; section++) {
      for (let position = 0; position < 20; position++) {
        const [a, b] = [run, original].map((of) => of.rows(section, position, position + 1));
        const isSame = Buffer.compare(a!, b!) === 0;
        assert.equal(isSame, section % 2 === 1 || !isMoved(position), `section ${section}, row ${position}`);
      }
    }
  }
});

test('a float16 key moved there and back is its original up to two roundings', async (t) => {
  const session = await open(t, 'chat', { kvType: 'float16' });
  const run = session.createRun(12);
  await session.prefill(
    run,
    Int32Array.from({ length: 12 }, (_, i) => 40 + i),
  );
  const before = run.rows(0, 0, 12).slice();
  await session.blender.rotate(run, [{ start: 3, end: 12, storedStart: 1000 }]);
  await session.blender.rotate(run, [{ start: 3, end: 12, storedStart: 3 - 997 }]);
  const [then, now] = [before, run.rows(0, 0, 12)].map(decodeHalf);
  const norm = Math.max(...then!.map(Math.abs));
  const off = Math.max(...then!.map((value, i) => Math.abs(value - now![i]!)));
  assert.ok(off > 0 && off <= norm * 2 ** -9, `off by ${off} of ${norm}`);
});
