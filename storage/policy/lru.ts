/** The chunk that was used least recently goes first. */
import type { Policy, RankedChunk } from './policy.js';

export class Lru implements Policy {
  #uses = 0;

  added(chunk: RankedChunk): void {
    chunk.rank = ++this.#uses;
  }

  used(chunk: RankedChunk): void {
    chunk.rank = ++this.#uses;
  }

  left(): void {}
}
