/**
 * A KV chunk as the tree sees it: an id at a node, the leases that hold it, and its place in the order of use.
 *
 * Chunks form a forest of their own: the parent of a chunk covers the tokens just before it. `pins` of a chunk are
 * the leases that end at it plus the pins of its children (R2), so a lease pins exactly the chunks it names,
 * wherever edges begin and end, and nothing about it changes when an edge is split.
 */
import assert from 'node:assert/strict';
import type { RadixNode } from './node.js';

declare const brand: unique symbol;

/** The caller's number for one chunk of KV. One id stands at one node only (R3). */
export type ChunkId = number & { readonly [brand]: 'ChunkId' };

/** Makes a `ChunkId`; asserts that the number is a safe integer. */
export function chunkId(value: number): ChunkId {
  assert(isChunkId(value));
  return value;
}

function isChunkId(value: number): value is ChunkId {
  return Number.isSafeInteger(value);
}

export class Chunk {
  readonly id: ChunkId;
  /** The node in whose edge the chunk's last token lies. */
  node: RadixNode;
  pins = 0;
  /** Neighbours in the order of use; both undefined while pinned. */
  older: Chunk | undefined = undefined;
  newer: Chunk | undefined = undefined;

  constructor(id: ChunkId, node: RadixNode) {
    this.id = id;
    this.node = node;
  }
}
