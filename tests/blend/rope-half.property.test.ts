/** Invariant B3 of keys that are stored as float16, and rotated in between as float32. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ropeFrequencies, rotateKeys } from '#blend';
import { decodeHalf } from '../../src/model/half.js';
import { storedAsHalf } from './half.js';

const HEAD_DIM = 8;
const frequencies = ropeFrequencies({ theta: 10_000, interleaved: false }, HEAD_DIM);
const shiftBy = (keys: Float32Array, positions: number, interleaved: boolean) =>
  rotateKeys(keys, { positions, frequencies, interleaved });

const shiftHalf = (keys: Float32Array, positions: number, interleaved: boolean) =>
  storedAsHalf(shiftBy(keys, positions, interleaved));

const positionsArbitrary = fc.integer({ min: -100_000, max: 100_000 });
const norm = (head: Float32Array) => Math.hypot(...head);

describe('moved keys stored as float16 (B3)', () => {
  /** Half a step of float16 at the largest number, √2 · 64. */
  const HALF_STEP = 2 ** -5;
  const halves = fc
    .array(fc.float({ min: -64, max: 64, noNaN: true }), { minLength: 24, maxLength: 24 })
    .map((values) => storedAsHalf(Float32Array.from(values)));
  test('are rounded as float16 is', () => {
    const all = decodeHalf(new Uint8Array(Uint16Array.from({ length: 0x7c00 }, (_, half) => half).buffer));
    assert.deepEqual(storedAsHalf(all), all);
    const between = all.slice(1).map((value, i) => (value + all[i]!) / 2);
    assert.deepEqual(
      storedAsHalf(between),
      between.map((_, i) => all[i % 2 === 0 ? i : i + 1]!),
    );
  });

  test('shift from the stored original with one rounding, by 0 with none', () => {
    fc.assert(
      fc.property(halves, positionsArbitrary, fc.boolean(), (keys, positions, interleaved) => {
        const exact = shiftBy(keys, positions, interleaved);
        for (const [i, value] of shiftHalf(keys, positions, interleaved).entries())
          assert.ok(Math.abs(value - exact[i]!) <= HALF_STEP);
        assert.deepEqual(shiftHalf(keys, 0, interleaved), keys);
      }),
    );
  });

  test('shift by a and then by b as by a + b, up to the roundings', () => {
    fc.assert(
      fc.property(halves, positionsArbitrary, positionsArbitrary, fc.boolean(), (keys, a, b, interleaved) => {
        const twice = shiftHalf(shiftHalf(keys, a, interleaved), b, interleaved);
        // The first rounding's error is rotated: at most √2 of a half step.
        for (const [i, value] of shiftHalf(keys, a + b, interleaved).entries())
          assert.ok(Math.abs(value - twice[i]!) <= HALF_STEP * (2 + Math.SQRT2) + 64 * 2 ** -22);
      }),
    );
  });

  test('keep the norm of every head, up to a rounding of its numbers', () => {
    fc.assert(
      fc.property(halves, positionsArbitrary, fc.boolean(), (keys, positions, interleaved) => {
        const moved = shiftHalf(keys, positions, interleaved);
        for (let head = 0; head < keys.length; head += HEAD_DIM) {
          const before = norm(keys.subarray(head, head + HEAD_DIM));
          const after = norm(moved.subarray(head, head + HEAD_DIM));
          assert.ok(
            Math.abs(after - before) <=
              before * 2 ** -11 + Math.sqrt(HEAD_DIM) * 2 ** -25 + 2 ** -22 * before,
          );
        }
      }),
    );
  });
});
