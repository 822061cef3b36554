/**
 * Cosines and sines of every position, made as far as they are needed: `[positions, headDim / 2]` float32, computed
 * in float64.
 */
import { type RopeSpec, ropeFrequencies } from '#blend';

const GROWTH_POSITIONS = 1024;

/** `[rows, headDim / 2]` each. */
export interface RotationRows {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

export class RotationTable {
  readonly #frequencies: Float64Array;
  #cos = new Float32Array(0);
  #sin = new Float32Array(0);
  #positions = 0;

  constructor(rope: RopeSpec, headDim: number) {
    this.#frequencies = ropeFrequencies(rope, headDim);
  }

  /** Rows of positions in any order, copied. */
  at(positions: Int32Array): RotationRows {
    const end = positions.reduce((highest, position) => Math.max(highest, position), -1) + 1;
    if (end > this.#positions) this.#grow(Math.ceil(end / GROWTH_POSITIONS) * GROWTH_POSITIONS);
    const half = this.#frequencies.length;
    const cos = new Float32Array(positions.length * half);
    const sin = new Float32Array(positions.length * half);
    for (const [row, position] of positions.entries()) {
      cos.set(this.#cos.subarray(position * half, (position + 1) * half), row * half);
      sin.set(this.#sin.subarray(position * half, (position + 1) * half), row * half);
    }
    return { cos, sin };
  }

  /** The rotation by a number of positions, one row; it may be negative. */
  by(shift: number): RotationRows {
    const angles = this.#frequencies.map((frequency) => shift * frequency);
    return { cos: Float32Array.from(angles, Math.cos), sin: Float32Array.from(angles, Math.sin) };
  }

  #grow(positions: number): void {
    const half = this.#frequencies.length;
    const cos = new Float32Array(positions * half);
    const sin = new Float32Array(positions * half);
    cos.set(this.#cos);
    sin.set(this.#sin);
    for (let position = this.#positions; position < positions; position++) {
      for (let i = 0; i < half; i++) {
        const angle = position * this.#frequencies[i]!;
        cos[position * half + i] = Math.cos(angle);
        sin[position * half + i] = Math.sin(angle);
      }
    }
    this.#cos = cos;
    this.#sin = sin;
    this.#positions = positions;
  }
}
