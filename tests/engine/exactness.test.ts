/**
 * The ground that "a hit equals a miss" stands on: a row's K and V, and the last row's logits, are the same bits
 * however the prompt was cut into tiles, on one thread or two, over garbage, and after rows copied from another
 * prompt's run.
 *
 * Every device run is filled with float16 NaNs first, so a row read beyond the end spoils the result.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { DeviceRun } from '../../src/engine/device-run.js';
import { defaultModel } from '../support/default-model.js';
import { loadTinyModel } from '../support/golden.js';
import {
  type Cleanup,
  importForTest,
  type ModelSession,
  openSession,
  prefillTiles,
  tileEnds,
} from '../support/model-session.js';

interface Filled {
  readonly run: DeviceRun;
  readonly logits: Float32Array;
}

interface Subject {
  readonly name: string;
  open(cleanup: Cleanup): Promise<string>;
  /** Prompt lengths, with 1 more than a multiple of 256 among them. */
  readonly lengths: readonly number[];
  readonly longest: number;
}

const SUBJECTS: readonly Subject[] = [
  {
    name: 'the default model',
    open: () => defaultModel(),
    lengths: [1, 2, 65, 257],
    longest: 769,
  },
  {
    name: 'the tiny chat model',
    open: (cleanup) =>
      importForTest(cleanup, { path: loadTinyModel('chat').path, weights: 'auto', kvType: 'float16' }),
    lengths: [1, 2, 3, 64, 65, 127, 255, 256, 257, 302],
    longest: 513,
  },
];

const CUTS = [1, 2, 63, 64, 255, 256, 257, 300];
const TILES = [2, 3, 7, 33, 64, 100, 255, 256, 257, 512];
/** Tiny tiles cost most and show it soon. */
const TILES_MAX = 12;

/** Token ids in the range of plain text of both models, the same for the same seed. */
function prompt(length: number, seed: number, vocab: number): Int32Array {
  let state = seed;
  return Int32Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return 20 + Math.floor((state / 2 ** 32) * (vocab - 20));
  });
}

/** A run without a zero in it: every element is a NaN. */
function poisonedRun(session: ModelSession, tokens: number): DeviceRun {
  const run = session.createRun(tokens);
  new Uint16Array(run.buffer).fill(0x7e01);
  return run;
}

async function fill(
  session: ModelSession,
  tokens: Int32Array,
  ends: readonly number[],
  from?: { readonly donor: DeviceRun; readonly rows: number },
): Promise<Filled> {
  const run = poisonedRun(session, tokens.length + 8);
  const start = from?.rows ?? 0;
  if (from !== undefined) run.copyFrom(from.donor, start);
  return { run, logits: await prefillTiles(session, run, tokens, { start, ends }) };
}

function assertSame(
  actual: Filled,
  expected: Filled,
  tokens: number,
  session: ModelSession,
  what: string,
): void {
  const bits = ({ logits }: Filled) => Buffer.from(logits.buffer, logits.byteOffset, logits.byteLength);
  assert.ok(expected.logits.every(Number.isFinite), `${what}: the logits to compare with are finite`);
  for (let section = 0; section < session.layout.sections; section++) {
    const [a, b] = [actual.run.rows(section, 0, tokens), expected.run.rows(section, 0, tokens)];
    if (Buffer.compare(a, b) === 0) continue;
    const row = Math.floor(a.findIndex((byte, i) => byte !== b[i]) / session.layout.rowBytes);
    assert.fail(`${what}: section ${section} differs at row ${row} of ${tokens}`);
  }
  assert.ok(bits(actual).equals(bits(expected)), `${what}: logits after ${tokens} tokens differ`);
}

for (const subject of SUBJECTS) {
  describe(subject.name, () => {
    let one: ModelSession;
    let two: ModelSession;
    const removals: (() => Promise<void>)[] = [];
    before(async () => {
      const directory = await subject.open({ after: (remove) => void removals.push(remove) });
      one = await openSession(directory, { threads: 1 });
      two = await openSession(directory, { threads: 2 });
    });
    after(() => Promise.all(removals.map((remove) => remove())));

    test('rows and logits are the same bits however a prompt is cut', async () => {
      for (const length of subject.lengths) {
        const tokens = prompt(length, length, two.vocab);
        const whole = await fill(two, tokens, [length]);
        for (const cut of CUTS.filter((end) => end < length)) {
          assertSame(await fill(two, tokens, [cut, length]), whole, length, two, `${length} cut at ${cut}`);
        }
        const tiles = TILES.filter((tile) => tile < length && length / tile < TILES_MAX);
        for (const tile of tiles) {
          const tiled = await fill(two, tokens, tileEnds(length, tile));
          assertSame(tiled, whole, length, two, `${length} in tiles of ${tile}`);
        }
      }
    });

    test('a long prompt cut at many places gives the same bits', async () => {
      const length = subject.longest;
      const tokens = prompt(length, 7, two.vocab);
      const whole = await fill(two, tokens, tileEnds(length, 512));
      const cuts = [...CUTS, 303, length - 1, length];
      assertSame(await fill(two, tokens, cuts), whole, length, two, `${length} cut at ${cuts.join()}`);
      const tiled = await fill(two, tokens, tileEnds(length, 128));
      assertSame(tiled, whole, length, two, `${length} in tiles of 128`);
    });

    test('one thread and two give the same bits', async () => {
      for (const length of subject.lengths) {
        const tokens = prompt(length, 3 + length, two.vocab);
        const ends = tileEnds(length, 129);
        const serial = await fill(one, tokens, ends);
        assertSame(serial, await fill(two, tokens, ends), length, two, `${length} tokens`);
      }
    });

    test('a prefix copied from another prompt gives the same bits as computing it', async () => {
      for (const [shared, more] of [
        [1, 45],
        [64, 1], // all but one token of the prompt is cached
        [255, 2],
        [257, 46],
      ] as const) {
        const length = shared + more;
        const tokens = prompt(length, shared, two.vocab);
        const other = Int32Array.from([...tokens.subarray(0, shared), ...prompt(30, 5, two.vocab)]);
        const { run: donor } = await fill(two, other, tileEnds(other.length, 100));
        const hit = await fill(two, tokens, [length], { donor, rows: shared });
        assertSame(hit, await fill(two, tokens, [length]), length, two, `${shared} shared tokens`);
      }
    });

    test('rows of an earlier, longer use of a run do not matter', async () => {
      const [long, short] = [prompt(300, 11, two.vocab), prompt(130, 12, two.vocab)];
      const { run } = await fill(two, long, [300]);
      const logits = await prefillTiles(two, run, short, { ends: [65, 130] });
      assertSame({ run, logits }, await fill(two, short, [130]), 130, two, 'a reused run');
      const next = await two.runner.decode(run, 130, 42);
      const fresh = await fill(two, short, [130]);
      assert.deepEqual(next, await two.runner.decode(fresh.run, 130, 42));
    });
  });
}
