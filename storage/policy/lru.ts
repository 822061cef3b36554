/** The chunk that was used least recently goes first. */
import type { Policy, RankedChunk } from './policy.js';

export class Lru implements Policy {
  rank(chunk: RankedChunk): number {
    return chunk.lastUse;
  }
}
