/**
 * Exponentials of differences of logits, several times faster than `Math.exp`, which dominates sampling otherwise.
 *
 * e^x = 2^whole · 2^(part / 256) · e^rest with |rest| ≤ ln 2 / 512: two tables and a cubic, relative error below 1e-12.
 */

const STEPS = 256;
const STEP = Math.LN2 / STEPS;
const PER_STEP = 1 / STEP;
const SIXTH = 1 / 6;
const PARTS = Float64Array.from({ length: STEPS }, (_, part) => 2 ** (part / STEPS));
const WHOLES = Float64Array.from({ length: 1024 }, (_, whole) => 2 ** -whole);

/** e^x for x ≤ 0; 0 below −700. */
export function exponential(x: number): number {
  if (x < -700) return 0;
  const steps = (x * PER_STEP - 0.5) | 0;
  const rest = x - steps * STEP;
  return WHOLES[-(steps >> 8)]! * PARTS[steps & 255]! * (1 + rest * (1 + rest * (0.5 + rest * SIXTH)));
}
