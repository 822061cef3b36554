/** RoPE frequencies, and invariant B3 of moved keys. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type RopeScaling, type RopeSpec, ropeFrequencies, rotateKeys, unmovable } from '#blend';

const plain: RopeSpec = { theta: 10_000, interleaved: false };
const llama3: RopeScaling = {
  type: 'llama3',
  factor: 8,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalContextTokens: 8192,
};

function assertClose(
  actual: Float32Array | Float64Array,
  expected: readonly number[],
  relative: number,
): void {
  assert.equal(actual.length, expected.length);
  for (const [i, value] of actual.entries()) {
    assert.ok(
      Math.abs(value - expected[i]!) <= relative * Math.abs(expected[i]!),
      `${i}: ${value} ≠ ${expected[i]}`,
    );
  }
}

describe('rope frequencies', () => {
  test('are powers of theta, highest first', () => {
    assertClose(ropeFrequencies(plain, 8), [1, 0.1, 0.01, 0.001], 1e-14);
  });

  test('are divided by a linear factor, and by explicit factors one by one', () => {
    const linear = ropeFrequencies({ ...plain, scaling: { type: 'linear', factor: 4 } }, 8);
    assertClose(linear, [0.25, 0.025, 0.0025, 0.00025], 1e-14);
    const factors = ropeFrequencies({ ...plain, scaling: { type: 'factors', factors: [1, 2, 4, 8] } }, 8);
    assertClose(factors, [1, 0.05, 0.0025, 0.000125], 1e-14);
  });

  test('of llama3 keep short waves, divide long ones, and blend between', () => {
    const rope: RopeSpec = { theta: 500_000, interleaved: false };
    const base = ropeFrequencies(rope, 128);
    const scaled = ropeFrequencies({ ...rope, scaling: llama3 }, 128);
    for (const [i, frequency] of base.entries()) {
      const waveTokens = (2 * Math.PI) / frequency;
      const divisor = frequency / scaled[i]!;
      if (waveTokens < 8192 / 4) assert.equal(divisor, 1);
      else if (waveTokens > 8192) assert.ok(Math.abs(divisor - 8) < 1e-12);
      else assert.ok(divisor > 1 && divisor < 8);
    }
  });

  test('of llama3 equal those of the reference', () => {
    // ROPE_INIT_FUNCTIONS['llama3'] of transformers 5.24.0 on torch 2.15.0, which computes in float32.
    const expected = [
      1.0, 0.193922758102417, 0.03760603070259094, 0.00729266507551074, 0.0005248460220173001,
      3.428102354519069e-5, 6.647869668086059e-6, 1.289173155782919e-6,
    ];
    assertClose(ropeFrequencies({ theta: 500_000, interleaved: false, scaling: llama3 }, 16), expected, 1e-6);
  });
});

const HEAD_DIM = 8;
const frequencies = ropeFrequencies(plain, HEAD_DIM);
const shiftBy = (keys: Float32Array, positions: number, interleaved: boolean) =>
  rotateKeys(keys, { positions, frequencies, interleaved });

const keysArbitrary = fc
  .array(fc.float({ min: -64, max: 64, noNaN: true }), { minLength: 24, maxLength: 24 })
  .map((values) => Float32Array.from(values));
const positionsArbitrary = fc.integer({ min: -100_000, max: 100_000 });

/** Two roundings of numbers at most √2 · 64, plus the trig of large angles. */
const TOLERANCE = 64 * 2 ** -22;

const norm = (head: Float32Array) => Math.hypot(...head);

describe('moved keys (B3)', () => {
  test('shift by a and then by b as by a + b', () => {
    fc.assert(
      fc.property(
        keysArbitrary,
        positionsArbitrary,
        positionsArbitrary,
        fc.boolean(),
        (keys, a, b, interleaved) => {
          const twice = shiftBy(shiftBy(keys, a, interleaved), b, interleaved);
          const once = shiftBy(keys, a + b, interleaved);
          for (const [i, value] of once.entries()) assert.ok(Math.abs(value - twice[i]!) <= TOLERANCE);
        },
      ),
    );
  });

  test('shift by 0 to the same bits, negative zeros, infinities and NaN included', () => {
    fc.assert(
      fc.property(fc.float32Array({ minLength: 16, maxLength: 16 }), fc.boolean(), (keys, interleaved) => {
        const same = shiftBy(keys, 0, interleaved);
        assert.deepEqual(new Uint32Array(same.buffer), new Uint32Array(keys.slice().buffer));
        assert.notEqual(same, keys);
      }),
    );
  });

  test('keep the norm of every head', () => {
    fc.assert(
      fc.property(keysArbitrary, positionsArbitrary, fc.boolean(), (keys, positions, interleaved) => {
        const moved = shiftBy(keys, positions, interleaved);
        for (let head = 0; head < keys.length; head += HEAD_DIM) {
          const before = norm(keys.subarray(head, head + HEAD_DIM));
          const after = norm(moved.subarray(head, head + HEAD_DIM));
          assert.ok(Math.abs(after - before) <= before * 2 ** -22 + 2 ** -140);
        }
      }),
    );
  });

  test('pair neighbours when interleaved and halves when not', () => {
    const quarterTurn = Float64Array.of(Math.PI / 2, 0);
    const keys = Float32Array.of(1, 2, 3, 4);
    const moved = (interleaved: boolean) =>
      Array.from(rotateKeys(keys, { positions: 1, frequencies: quarterTurn, interleaved }), Math.round);
    assert.deepEqual(moved(true), [-2, 1, 3, 4]);
    assert.deepEqual(moved(false), [-3, 2, 1, 4]);
  });

  test('may be written over the originals, and by default leave them alone', () => {
    fc.assert(
      fc.property(keysArbitrary, positionsArbitrary, fc.boolean(), (keys, positions, interleaved) => {
        const original = keys.slice();
        const moved = shiftBy(keys, positions, interleaved);
        assert.deepEqual(keys, original);
        assert.equal(rotateKeys(keys, { positions, frequencies, interleaved }, keys), keys);
        assert.deepEqual(keys, moved);
      }),
    );
  });
});

describe('moved keys of other ropes (B3)', () => {
  const ropes: Record<string, RopeSpec> = {
    llama3: { theta: 500_000, interleaved: false, scaling: { ...llama3, originalContextTokens: 64 } },
    linear: { theta: 10_000, interleaved: true, scaling: { type: 'linear', factor: 3.7 } },
    factors: { theta: 10_000, interleaved: true, scaling: { type: 'factors', factors: [1, 1.5, 3, 8] } },
  };
  for (const [name, rope] of Object.entries(ropes)) {
    test(`with ${name} scaling shift by a and then by b as by a + b`, () => {
      const scaled = ropeFrequencies(rope, HEAD_DIM);
      const shift = (keys: Float32Array, positions: number) =>
        rotateKeys(keys, { positions, frequencies: scaled, interleaved: rope.interleaved });
      fc.assert(
        fc.property(keysArbitrary, positionsArbitrary, positionsArbitrary, (keys, a, b) => {
          const twice = shift(shift(keys, a), b);
          for (const [i, value] of shift(keys, a + b).entries())
            assert.ok(Math.abs(value - twice[i]!) <= TOLERANCE);
        }),
      );
    });
  }

  test('that are rotated in part keep the rest bit for bit, and move as a narrower head does', () => {
    const headDim = 12;
    const partOf = (rows: Float32Array, from: number, to: number) =>
      rows.filter((_, i) => i % headDim >= from && i % headDim < to);
    fc.assert(
      fc.property(keysArbitrary, positionsArbitrary, fc.boolean(), (keys, positions, interleaved) => {
        const shift = { positions, frequencies, interleaved };
        const moved = rotateKeys(keys, { ...shift, headDim });
        assert.deepEqual(partOf(moved, HEAD_DIM, headDim), partOf(keys, HEAD_DIM, headDim));
        assert.deepEqual(partOf(moved, 0, HEAD_DIM), rotateKeys(partOf(keys, 0, HEAD_DIM), shift));
        assert.deepEqual(rotateKeys(keys.slice(), { ...shift, headDim }, keys), moved);
      }),
    );
  });

  test('that are not whole heads, or narrower than what is rotated, are refused', () => {
    const shift = { positions: 1, frequencies, interleaved: false };
    assert.throws(() => rotateKeys(new Float32Array(12), shift), assert.AssertionError);
    assert.throws(() => rotateKeys(new Float32Array(12), { ...shift, headDim: 6 }), assert.AssertionError);
  });
});

test('ropes whose frequencies change with the sequence are refused by reason, and so is what is unknown', () => {
  for (const scaling of [undefined, 'default', 'none', 'linear', 'llama3', 'factors'])
    assert.equal(unmovable(scaling), undefined);
  assert.equal(unmovable('dynamic'), 'dynamic_ntk');
  assert.equal(unmovable('longrope'), 'longrope_switch');
  assert.equal(unmovable('su'), 'longrope_switch');
  for (const scaling of ['yarn', 'linearly', '', 'constructor'])
    assert.equal(unmovable(scaling), 'unknown_scaling');
});

test('dynamic NTK is refused for a reason: its keys at two lengths are not one rotation apart', () => {
  const at = (tokens: number) => {
    const theta = 10_000 * ((2 * tokens) / 1024 - 1) ** (HEAD_DIM / (HEAD_DIM - 2));
    return ropeFrequencies({ theta, interleaved: false }, HEAD_DIM);
  };
  const key = Float32Array.from({ length: HEAD_DIM }, (_, i) => i + 1);
  const keyOf = (tokens: number, positions: number) =>
    rotateKeys(key, { positions, frequencies: at(tokens), interleaved: false });
  const moved = rotateKeys(keyOf(2048, 100), { positions: 900, frequencies: at(4096), interleaved: false });
  const expected = keyOf(4096, 1000);
  assert.ok(moved.some((value, i) => Math.abs(value - expected[i]!) > 0.1));
});
