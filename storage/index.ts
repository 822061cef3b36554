/** Where the bytes of KV chunks are kept, under which names and in which format. See store.ts and host-store.ts. */
export { type Checksum, createChecksum } from './checksum.js';
export { HostStore } from './host-store.js';
export { type ChunkKey, chunkKey } from './key.js';
export { type KvLayout, type KvShape, kvLayout } from './layout.js';
export { type Slab, slotBytes } from './slab.js';
export type { ChunkStore, EvictReason, OnEvict, ReadOutcome, WriteOutcome } from './store.js';
