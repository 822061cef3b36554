/** What float16 storage leaves of float32 rows. */

/** The nearest float16 values, ties to even. For numbers in float16's range. */
export const storedAsHalf = (rows: Float32Array): Float32Array =>
  rows.map((value) => {
    const [bits] = new Uint32Array(Float32Array.of(value).buffer);
    const exponent = ((bits! >> 23) & 0xff) - 127;
    // Adding and taking away 1.5 · 2⁵² steps rounds to whole steps, to even, in float64.
    const step = 2 ** (Math.max(exponent, -14) - 10);
    const rounder = 1.5 * 2 ** 52 * step;
    return value + rounder - rounder;
  });
