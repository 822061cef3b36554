/** Token prefixes to KV chunk ids. See tree.ts. */
export { type ChunkId, chunkId } from './chunk.js';
export type { NodeOutline, Parting, Place } from './outline.js';
export { type InsertResult, type Lease, type Match, type RadixStats, RadixTree } from './tree.js';
