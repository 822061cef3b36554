/**
 * float16 against IEEE 754's definition, spelled out in doubles: sign · 2^(e − 15) · (1 + m / 1024), or
 * sign · 2^−14 · m / 1024 for e = 0. Every half is tried, and every rounding boundary between two halves.
 */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { kvLayout } from '#storage';
import { codecsOf, createCodec, suitsLayout } from '../../storage/codec.js';
import { narrowFloats, widenHalves } from '../../storage/float16.js';

const HALVES = Uint16Array.from({ length: 0x10000 }, (_, half) => half);
const isNan = (half: number): boolean => (half & 0x7fff) > 0x7c00;

function floatOf(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const mantissa = half & 1023;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0
    ? sign * 2 ** -14 * (mantissa / 1024)
    : sign * 2 ** (exponent - 15) * (1 + mantissa / 1024);
}

function narrow(values: Float32Array): Uint16Array {
  const out = new Uint16Array(values.length);
  narrowFloats(new Uint32Array(values.buffer), out);
  return out;
}

function widen(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length);
  widenHalves(halves, bits);
  return new Float32Array(bits.buffer);
}

suite('float16', () => {
  test('each of the 65,536 halves has the value that the standard gives it', () => {
    const floats = widen(HALVES);
    for (const half of HALVES) assert(Object.is(floats[half], floatOf(half)), `half ${half.toString(16)}`);
  });

  test('each half survives the way through float32, NaN payloads too', () => {
    const bits = new Uint32Array(HALVES.length);
    widenHalves(HALVES, bits);
    const back = new Uint16Array(HALVES.length);
    narrowFloats(bits, back);
    assert.deepEqual(back, HALVES);
  });

  test('between two halves the nearer one is taken, and the even one half way', () => {
    const step = new Float32Array(1);
    const bits = new Uint32Array(step.buffer);
    for (const sign of [1, -1]) {
      for (let low = 0; low < 0x7bff; low++) {
        const high = low + 1;
        step[0] = (floatOf(low) + floatOf(high)) / 2; // exact in float32
        const middle = bits[0]!;
        const values = new Float32Array(3);
        new Uint32Array(values.buffer).set([middle - 1, middle, middle + 1]);
        const expected = [low, low % 2 === 0 ? low : high, high].map((half) =>
          sign < 0 ? half | 0x8000 : half,
        );
        assert.deepEqual([...narrow(values.map((value) => sign * value))], expected);
      }
    }
  });

  test('what is beyond the largest half becomes infinity from half way on', () => {
    const beyond = Float32Array.of(65_504, 65_519.996, 65_520, 1e10, -65_520, Number.POSITIVE_INFINITY);
    assert.deepEqual([...narrow(beyond)], [0x7bff, 0x7bff, 0x7c00, 0x7c00, 0xfc00, 0x7c00]);
  });

  test('a NaN never becomes a number or an infinity', () => {
    const nans = new Uint32Array([0x7f800001, 0x7fc00000, 0xff801fff, 0xffffffff]);
    const out = new Uint16Array(nans.length);
    narrowFloats(nans, out);
    assert([...out].every(isNan));
  });
});

suite('codecs', () => {
  const shape = { layers: 2, kvHeads: 1, headDim: 4, chunkTokens: 2 };
  const float32 = kvLayout({ ...shape, dtype: 'float32' });
  const float16 = kvLayout({ ...shape, dtype: 'float16' });

  test('a codec of the type of the KV is the identity', () => {
    for (const [name, layout] of [
      ['float32', float32],
      ['float16', float16],
    ] as const) {
      const codec = createCodec(name, layout);
      assert(codec.isIdentity && codec.isLossless);
      assert.equal(codec.encodedBytes, layout.chunkBytes);
    }
  });

  test('float32 KV rests as float16 in half the bytes, rounded once and marked as lossy', () => {
    const codec = createCodec('float16', float32);
    assert(!codec.isLossless && !codec.isIdentity);
    assert.equal(codec.encodedBytes, float32.chunkBytes / 2);
    const values = Float32Array.from({ length: 32 }, (_, i) => Math.sin(i) * 3);
    const encoded = new Uint8Array(codec.encodedBytes);
    const once = new Uint8Array(float32.chunkBytes);
    codec.encode(new Uint8Array(values.buffer), encoded);
    codec.decode(encoded, once);
    assert.deepEqual(new Float32Array(once.buffer), widen(narrow(values)));
    const again = new Uint8Array(codec.encodedBytes);
    codec.encode(once, again);
    assert.deepEqual(again, encoded);
  });

  test('float32 at rest is refused for float16 KV', () => {
    assert.equal(suitsLayout('float32', float16), false);
    assert.throws(() => createCodec('float32', float16), { name: 'AssertionError' });
    assert.deepEqual(
      codecsOf(float16).map((codec) => codec.name),
      ['float16'],
    );
  });

  test('ids are told apart, since files name them', () => {
    assert.deepEqual(
      codecsOf(float32).map((codec) => [codec.name, codec.id]),
      [
        ['float32', 1],
        ['float16', 2],
      ],
    );
  });
});
