/** Tells whether bytes that pass by are a whole archive, by its trailer alone: for who only keeps it. */
import { createHash } from 'node:crypto';
import { COUNT_BYTES, HASH_BYTES, TRAILER_MAGIC } from './archive-format.js';

const TRAILER_BYTES = TRAILER_MAGIC.byteLength + COUNT_BYTES + HASH_BYTES;

export class ArchiveCheck {
  readonly #hash = createHash('sha256');
  /** What may be the trailer. */
  #tail = Buffer.alloc(0);

  add(piece: Uint8Array): void {
    const bytes = piece.byteLength >= TRAILER_BYTES ? piece : Buffer.concat([this.#tail, piece]);
    if (piece.byteLength >= TRAILER_BYTES) this.#hash.update(this.#tail);
    const tailAt = Math.max(0, bytes.byteLength - TRAILER_BYTES);
    this.#hash.update(bytes.subarray(0, tailAt));
    this.#tail = Buffer.from(bytes.subarray(tailAt));
  }

  /** Whether nothing is missing, and nothing changed by accident. */
  isWhole(): boolean {
    const hashAt = TRAILER_BYTES - HASH_BYTES;
    const isTrailer =
      this.#tail.byteLength === TRAILER_BYTES &&
      this.#tail.subarray(0, TRAILER_MAGIC.byteLength).equals(TRAILER_MAGIC);
    const digest = this.#hash.copy().update(this.#tail.subarray(0, hashAt)).digest();
    return isTrailer && digest.equals(this.#tail.subarray(hashAt));
  }
}
