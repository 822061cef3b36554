/**
 * Reads a stream of bytes piece by piece, in the lengths that its reader asks for, and hashes what was read. Holds one
 * piece of the stream at a time, and never takes more of it than a limit.
 */
import { createHash } from 'node:crypto';
import { ArchiveError } from './archive-format.js';

const EMPTY = new Uint8Array();

export class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #bytesMax: number;
  readonly #hash = createHash('sha256');
  #piece: Uint8Array = EMPTY;
  #position = 0;

  constructor(source: AsyncIterable<Uint8Array>, bytesMax: number) {
    this.#source = source[Symbol.asyncIterator]();
    this.#bytesMax = bytesMax;
  }

  /** Bytes read so far. */
  get position(): number {
    return this.#position;
  }

  /**
   * Fills `into`.
   * @throws ArchiveError `truncated`, `too_large`
   */
  async read<Bytes extends Uint8Array>(into: Bytes): Promise<Bytes> {
    if (this.#position + into.byteLength > this.#bytesMax)
      throw new ArchiveError('too_large', `it is larger than ${this.#bytesMax} bytes`);
    let filled = 0;
    while (filled < into.byteLength) {
      if (this.#piece.byteLength === 0) await this.#next();
      const part = this.#piece.subarray(0, into.byteLength - filled);
      into.set(part, filled);
      this.#hash.update(part);
      this.#piece = this.#piece.subarray(part.byteLength);
      filled += part.byteLength;
      this.#position += part.byteLength;
    }
    return into;
  }

  /** SHA-256 of what was read so far. */
  digest(): Buffer {
    return this.#hash.copy().digest();
  }

  /** Whether nothing follows. @throws ArchiveError `truncated` when that can't be told */
  async isAtEnd(): Promise<boolean> {
    while (this.#piece.byteLength === 0) {
      const next = await this.#take();
      if (next === undefined) return true;
      this.#piece = next;
    }
    return false;
  }

  async #next(): Promise<void> {
    const next = await this.#take();
    if (next === undefined) throw new ArchiveError('truncated', `it ends at byte ${this.#position}`);
    this.#piece = next;
  }

  async #take(): Promise<Uint8Array | undefined> {
    try {
      const { done, value } = await this.#source.next();
      return done ? undefined : value;
    } catch (cause) {
      throw new ArchiveError('truncated', `it broke off at byte ${this.#position}`, cause);
    }
  }
}
