/**
 * Which rows of the GPU's arena are whose: rows are given out in pages, and a run is a list of row numbers, of which the
 * first may be those of another run, its base.
 *
 * Invariants: a row belongs to one run or to nobody; the scratch page is nobody's, ever. Knows no tensors.
 */
import assert from 'node:assert/strict';

/** Rows that are given out together. */
export const PAGE_ROWS = 64;

export class ArenaRows {
  /** All of the arena's, those of the scratch page too. */
  readonly rows: number;
  readonly #free: number[];

  /** @param pages to be given out; the scratch page comes besides, as the first one */
  constructor(pages: number) {
    this.rows = (pages + 1) * PAGE_ROWS;
    this.#free = Array.from({ length: pages }, (_, i) => (pages - i) * PAGE_ROWS);
  }

  /** The row that takes what is dropped, the i-th of such rows: `i < PAGE_ROWS`. */
  scratch(i: number): number {
    assert(i >= 0 && i < PAGE_ROWS, 'there are enough scratch rows');
    return i;
  }

  /** First rows of pages for so many rows. */
  take(rows: number): number[] {
    const pages = Math.ceil(rows / PAGE_ROWS);
    assert(pages <= this.#free.length, 'the byte budget of the GPU holds all runs');
    return this.#free.splice(this.#free.length - pages, pages);
  }

  giveBack(pages: readonly number[]): void {
    this.#free.push(...pages);
  }
}

let versions = 0;

/** A run's place in the arena. */
export class ArenaRun {
  readonly capacityTokens: number;
  /** First rows of the pages that are its own. */
  readonly pages: readonly number[];
  #base: { readonly run: ArenaRun; readonly rows: number } | undefined;
  #version = ++versions;

  constructor(
    arena: ArenaRows,
    capacityTokens: number,
    base?: { readonly run: ArenaRun; readonly rows: number },
  ) {
    assert(base === undefined || base.run.#base === undefined, 'a base has no base');
    this.capacityTokens = capacityTokens;
    this.#base = base;
    this.pages = arena.take(capacityTokens - this.baseRows);
  }

  /** Rows that are another run's. */
  get baseRows(): number {
    return this.#base?.rows ?? 0;
  }

  /** Of its list of rows, unlike that of any other run and of any time before it changed. */
  get version(): number {
    return this.#version;
  }

  /** The same first rows have moved to another run. */
  rebase(run: ArenaRun): void {
    assert(this.#base !== undefined && run.#base === undefined, 'a base has no base');
    this.#base = { ...this.#base, run };
    this.#version = ++versions;
  }

  /** Where row `row` of the run lies. */
  at(row: number): number {
    assert(row >= 0 && row < this.capacityTokens, 'a row is within its run');
    const { baseRows } = this;
    if (this.#base !== undefined && row < baseRows) return this.#base.run.at(row);
    const own = row - baseRows;
    return this.pages[Math.floor(own / PAGE_ROWS)]! + (own % PAGE_ROWS);
  }

  /** Where the rows `[start, end)` lie. */
  range(start: number, end: number): Int32Array {
    return Int32Array.from({ length: end - start }, (_, i) => this.at(start + i));
  }

  /** Where the rows `[start, end)` lie, which are written: none of them is the base's. */
  own(start: number, end: number): Int32Array {
    assert(start >= this.baseRows, 'the rows of a base are only read');
    return this.range(start, end);
  }
}
