/**
 * Device memory of one sequence on the CPU: per layer one K and one V section, token-major, so that the rows
 * `[0, n)` of a section are one view. Copies are plain memory copies of rows; nothing here computes.
 */
import assert from 'node:assert/strict';
import type { KvLayout } from '#storage';

export class DeviceRun {
  readonly capacityTokens: number;
  readonly buffer: ArrayBuffer;
  readonly #layout: KvLayout;
  readonly #bytes: Uint8Array;

  /** @param buffer memory to use, at least `capacityTokens * layout.tokenBytes` long. */
  constructor(layout: KvLayout, capacityTokens: number, buffer: ArrayBuffer) {
    assert(buffer.byteLength >= capacityTokens * layout.tokenBytes);
    this.#layout = layout;
    this.capacityTokens = capacityTokens;
    this.buffer = buffer;
    this.#bytes = new Uint8Array(buffer);
  }

  /** Where row `row` of a section starts, in bytes from the start of `buffer`. */
  offset(section: number, row: number): number {
    assert(row <= this.capacityTokens, 'a row is within its run');
    return (section * this.capacityTokens + row) * this.#layout.rowBytes;
  }

  /** The bytes of rows `[start, end)` of a section; no copy. */
  rows(section: number, start: number, end: number): Uint8Array {
    return this.#bytes.subarray(this.offset(section, start), this.offset(section, end));
  }

  /** Copies rows `[0, tokens)` of another run of the same layout. */
  copyFrom(other: DeviceRun, tokens: number): void {
    for (let section = 0; section < this.#layout.sections; section++) {
      this.rows(section, 0, tokens).set(other.rows(section, 0, tokens));
    }
  }

  /** Copies any rows of another run, in the order given, to rows `[0, rows.length)`. */
  gather(other: DeviceRun, rows: Int32Array): void {
    for (const { row, at, count } of stretches(rows)) {
      for (let section = 0; section < this.#layout.sections; section++) {
        this.rows(section, at, at + count).set(other.rows(section, row, row + count));
      }
    }
  }

  /** Copies the rows of another run from its row `start` on to any rows, in the order given. */
  scatter(other: DeviceRun, start: number, rows: Int32Array): void {
    for (const { row, at, count } of stretches(rows)) {
      for (let section = 0; section < this.#layout.sections; section++) {
        this.rows(section, row, row + count).set(other.rows(section, start + at, start + at + count));
      }
    }
  }

  /** Chunk bytes → rows `[start, start + rows)`. */
  load(chunk: Uint8Array, start: number, rows: number): void {
    const { chunkTokens, rowBytes } = this.#layout;
    for (let section = 0; section < this.#layout.sections; section++) {
      const at = section * chunkTokens * rowBytes;
      this.rows(section, start, start + rows).set(chunk.subarray(at, at + rows * rowBytes));
    }
  }

  /** Rows `[start, start + chunkTokens)` → chunk bytes. */
  seal(chunk: Uint8Array, start: number): void {
    const { chunkTokens, rowBytes } = this.#layout;
    for (let section = 0; section < this.#layout.sections; section++) {
      chunk.set(this.rows(section, start, start + chunkTokens), section * chunkTokens * rowBytes);
    }
  }

  /**
   * Fresh rows of a graph, `[sections, rowsMade, row]`, from its row `from` on → rows `[start, start + rows)`. The
   * graph may have made more rows than these: padding, or rows of other runs.
   */
  append(fresh: Uint8Array, start: number, rows: number, from = 0): void {
    const { rowBytes, sections } = this.#layout;
    const sectionBytes = fresh.byteLength / sections;
    for (let section = 0; section < sections; section++) {
      const at = section * sectionBytes + from * rowBytes;
      this.rows(section, start, start + rows).set(fresh.subarray(at, at + rows * rowBytes));
    }
  }
}

/** Rows that follow each other, as one: `rows[at + i] === row + i` for `i < count`. */
function* stretches(rows: Int32Array): Generator<{ row: number; at: number; count: number }> {
  for (let at = 0, end = 1; end <= rows.length; end++) {
    if (rows[end] === rows[end - 1]! + 1) continue;
    yield { row: rows[at]!, at, count: end - at };
    at = end;
  }
}
