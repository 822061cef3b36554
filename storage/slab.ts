/**
 * One SharedArrayBuffer cut into slots of equal length, one KV chunk a slot, seen by both threads.
 *
 * A slot number is all a message needs to carry; `slotBytes` turns it into a view on either side.
 * The system commits pages when they are first touched (16 GiB took no time and no memory to allocate on Linux), so
 * the whole budget is one buffer from the start. Knows nothing of keys and who uses a slot for what.
 */
import assert from 'node:assert/strict';

/** Survives `postMessage`; the memory is shared, not copied. */
export interface Slab {
  readonly buffer: SharedArrayBuffer;
  /** Bytes of one slot. */
  readonly slotBytes: number;
}

/** The bytes of a slot; no copy. */
export function slotBytes(slab: Slab, slot: number): Uint8Array {
  return new Uint8Array(slab.buffer, slot * slab.slotBytes, slab.slotBytes);
}

/** Which slots are taken. Gives the slot that was freed last, whose pages are committed already. */
export class SlotPool {
  readonly #isTaken: Uint8Array;
  readonly #freed: number[] = [];
  #everTaken = 0;

  constructor(slots: number) {
    this.#isTaken = new Uint8Array(slots);
  }

  get taken(): number {
    return this.#everTaken - this.#freed.length;
  }

  /** Undefined when all are taken. */
  take(): number | undefined {
    const slot = this.#freed.pop() ?? this.#everTaken;
    if (slot === this.#isTaken.length) return undefined;
    if (slot === this.#everTaken) this.#everTaken++;
    this.#isTaken[slot] = 1;
    return slot;
  }

  free(slot: number): void {
    assert(this.#isTaken[slot] === 1, 'a slot is freed once');
    this.#isTaken[slot] = 0;
    this.#freed.push(slot);
  }
}
