/**
 * Cosines and sines of every position, made as far as they are needed: `[positions, headDim / 2]` float32, computed
 * in float64.
 */
import { type RopeSpec, ropeFrequencies } from '#blend';

const GROWTH_POSITIONS = 1024;

export class RotationTable {
  readonly #frequencies: Float64Array;
  #cos = new Float32Array(0);
  #sin = new Float32Array(0);
  #positions = 0;

  constructor(rope: RopeSpec, headDim: number) {
    this.#frequencies = ropeFrequencies(rope, headDim);
  }

  /** Views of the positions `[start, end)`, good until the next call. */
  rows(start: number, end: number): { readonly cos: Float32Array; readonly sin: Float32Array } {
    if (end > this.#positions) this.#grow(Math.ceil(end / GROWTH_POSITIONS) * GROWTH_POSITIONS);
    const half = this.#frequencies.length;
    return {
      cos: this.#cos.subarray(start * half, end * half),
      sin: this.#sin.subarray(start * half, end * half),
    };
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
