/**
 * What a chunk costs on the disk, and how many bytes chunks may take there.
 *
 * A chunk is charged for the blocks of its file, and for its row and its name, with room for a catalogue that was set
 * aside as corrupt. What a directory takes without any chunk, `DIRECTORY_BYTES` (256 folders, an empty catalogue, its
 * write-ahead log), is kept apart, so that the directory as a whole stays within the budget that the user gave.
 * Of the volume, `freeBytesMin` stay free: chunks have to go when others take that room.
 */
import assert from 'node:assert/strict';

const BLOCK_BYTES = 4096;

/** Measured: 560 bytes a row with 64 tokens, index included, and 80 for a name. */
const ROW_BYTES = 1280;

export const DIRECTORY_BYTES = 8 << 20;

/** What a chunk with a file of so many bytes counts for. */
export function chargedBytes(fileBytes: number): number {
  return Math.ceil(fileBytes / BLOCK_BYTES) * BLOCK_BYTES + ROW_BYTES;
}

export class DiskBudget {
  /** For chunks, if the volume has room. */
  readonly capacityBytes: number;
  readonly #freeBytesMin: number;
  /** Of the volume, as things stand: what was last seen, less what was begun since, and more what was removed. */
  #freeBytes = Number.POSITIVE_INFINITY;

  constructor(options: { readonly budgetBytes: number; readonly freeBytesMin: number }) {
    assert(options.budgetBytes > DIRECTORY_BYTES, 'the budget holds more than an empty directory');
    this.capacityBytes = options.budgetBytes - DIRECTORY_BYTES;
    this.#freeBytesMin = options.freeBytesMin;
  }

  /** Of the volume; undefined when it was never told. */
  get freeBytes(): number | undefined {
    return Number.isFinite(this.#freeBytes) ? this.#freeBytes : undefined;
  }

  /** How much less than `capacityBytes` chunks may take, `usedBytes` of which they do. */
  shortageBytes(usedBytes: number): number {
    const roomBytes = usedBytes + this.#freeBytes - this.#freeBytesMin;
    return this.capacityBytes - Math.max(0, Math.min(this.capacityBytes, roomBytes));
  }

  /** The volume has so much free, with `begunBytes` of chunks not written yet. */
  saw(freeBytes: number, begunBytes: number): void {
    this.#freeBytes = freeBytes - begunBytes;
  }

  /** A chunk is about to take room, or gave it back. */
  moved(bytes: number): void {
    this.#freeBytes -= bytes;
  }
}
