/** The chunk that was used least often since it was added goes first; of several, the least recently used. */
import type { Policy, RankedChunk } from './policy.js';

/** More uses than a tier sees, so that one more hit outweighs any recency; and times 4,095 hits still exact. */
const USES_MAX = 2 ** 41;
const HITS_MAX = 2 ** 12 - 1;

export class Lfu implements Policy {
  rank(chunk: RankedChunk): number {
    return Math.min(chunk.hits, HITS_MAX) * USES_MAX + chunk.lastUse;
  }
}
