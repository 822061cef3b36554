/**
 * Device memory of one sequence on the CPU: per layer one K and one V section, token-major, so that the rows
 * `[0, n)` of a section are one view. Copies are plain memory copies of rows; nothing here computes.
 *
 * A run may have its first rows in another one, its *base*, which several runs may share. These are only read.
 */
import assert from 'node:assert/strict';
import type { KvLayout } from '#storage';

/** Rows `[0, rows)` of a run that has none but its own. */
export interface RunBase {
  readonly run: DeviceRun;
  readonly rows: number;
}

export class DeviceRun {
  /** All rows, those of the base too. */
  readonly capacityTokens: number;
  readonly buffer: ArrayBuffer;
  readonly #layout: KvLayout;
  readonly #bytes: Uint8Array;
  #base: RunBase | undefined;

  /** @param buffer memory to use, at least `layout.tokenBytes` long for each row that is not the base's. */
  constructor(layout: KvLayout, capacityTokens: number, buffer: ArrayBuffer, base?: RunBase) {
    this.#layout = layout;
    this.capacityTokens = capacityTokens;
    this.buffer = buffer;
    this.#bytes = new Uint8Array(buffer);
    this.#base = base;
    assert(base === undefined || base.run.baseRows === 0, 'a base has no base');
    assert(buffer.byteLength >= (capacityTokens - this.baseRows) * layout.tokenBytes);
  }

  /** Rows that are another run's. */
  get baseRows(): number {
    return this.#base?.rows ?? 0;
  }

  /** The same first rows have moved to another run. */
  rebase(run: DeviceRun): void {
    assert(this.#base !== undefined && run.baseRows === 0, 'a base has no base');
    this.#base = { ...this.#base, run };
  }

  /** The bytes of rows `[start, end)` of a section, all of them the base's or none; no copy. */
  rows(section: number, start: number, end: number): Uint8Array {
    const { baseRows } = this;
    if (this.#base !== undefined && end <= baseRows) return this.#base.run.rows(section, start, end);
    assert(
      baseRows <= start && start <= end && end <= this.capacityTokens,
      'rows are within a part of a run',
    );
    const at = section * (this.capacityTokens - baseRows) - baseRows;
    const { rowBytes } = this.#layout;
    return this.#bytes.subarray((at + start) * rowBytes, (at + end) * rowBytes);
  }

  /** Copies rows `[baseRows, tokens)` of another run of the same layout. */
  copyFrom(other: DeviceRun, tokens: number): void {
    const cuts = [this.baseRows, Math.max(this.baseRows, Math.min(other.baseRows, tokens)), tokens];
    for (let section = 0; section < this.#layout.sections; section++) {
      for (const [i, start] of cuts.slice(0, -1).entries()) {
        const end = cuts[i + 1]!;
        if (start < end) this.rows(section, start, end).set(other.rows(section, start, end));
      }
    }
  }

  /** Copies any rows of another run, in the order given, to rows `[start, start + rows.length)`. */
  gather(other: DeviceRun, rows: Int32Array, start = 0): void {
    for (const { row, at, count } of stretches(rows)) {
      for (let section = 0; section < this.#layout.sections; section++) {
        this.rows(section, start + at, start + at + count).set(other.rows(section, row, row + count));
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

  /** Rows `[start, start + rows)`, at most a chunk of them → chunk bytes. */
  seal(chunk: Uint8Array, start: number, rows: number): void {
    const { chunkTokens, rowBytes } = this.#layout;
    for (let section = 0; section < this.#layout.sections; section++) {
      chunk.set(this.rows(section, start, start + rows), section * chunkTokens * rowBytes);
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
