/**
 * One node of the tree, and the ways its edge changes: split, extend, trim, merge.
 *
 * The edge covers tokens [start, end) of every path through the node. The chunk that covers tokens
 * [i·c, (i+1)·c) of a path hangs at the node in whose edge its last token lies, so a node holds exactly the chunks
 * [⌊start/c⌋, ⌊end/c⌋), each with its index on the path. Only whole chunks are inserted, so a leaf ends at a
 * multiple of c and holds at least one chunk. A node that is no root has no child or at least two (the path is
 * compressed), which makes the shape of the tree a function of its contents alone.
 *
 * Every edge owns its buffer, which is at most twice as long as the edge. Knows no leases and no order of use.
 */
import assert from 'node:assert/strict';
import type { Chunk } from './chunk.js';

export class RadixNode {
  /** Undefined for a root. */
  parent: RadixNode | undefined;
  /** Tokens on the path before this edge. */
  start: number;
  edge: Int32Array;
  chunks: Chunk[] = [];
  /** By first token of their edge (R1); undefined for a leaf. */
  children: Map<number, RadixNode> | undefined = undefined;

  constructor(parent: RadixNode | undefined, start: number, edge: Int32Array) {
    this.parent = parent;
    this.start = start;
    this.edge = edge;
  }

  get end(): number {
    return this.start + this.edge.length;
  }

  adopt(child: RadixNode): void {
    child.parent = this;
    this.children ??= new Map();
    this.children.set(child.edge[0]!, child);
  }

  /**
   * Cuts the edge at `depth` tokens of the path; returns the new node above, which takes `chunksAbove` chunks.
   * This node stays the lower one. O(edge).
   */
  split(depth: number, chunksAbove: number): RadixNode {
    const cut = depth - this.start;
    const upper = new RadixNode(this.parent, this.start, ownedView(this.edge, 0, cut));
    upper.chunks = this.chunks.splice(0, chunksAbove);
    for (const chunk of upper.chunks) chunk.node = upper;
    this.edge = ownedView(this.edge, cut, this.edge.length);
    this.start = depth;
    this.parent!.adopt(upper);
    upper.adopt(this);
    return upper;
  }

  /** Appends tokens to the edge of a leaf. O(edge). */
  extend(tokens: Int32Array): void {
    this.edge = joined(this.edge, tokens);
  }

  /** Cuts `tokens` tokens off the end of the edge of a leaf. O(1) amortised. */
  trim(tokens: number): void {
    this.edge = ownedView(this.edge, 0, this.edge.length - tokens);
  }

  /** Takes the place of its parent, whose only child it is: their edges and chunks become one. O(edges). */
  mergeIntoParent(): void {
    const parent = this.parent!;
    for (const chunk of parent.chunks) chunk.node = this;
    this.chunks = parent.chunks.concat(this.chunks);
    this.edge = joined(parent.edge, this.edge);
    this.start = parent.start;
    parent.parent!.adopt(this);
  }
}

/** The top of one namespace's tree: no tokens, no chunks. */
export class RadixRoot extends RadixNode {
  readonly namespace: string;

  constructor(namespace: string) {
    super(undefined, 0, new Int32Array(0));
    this.namespace = namespace;
  }
}

export function rootOf(node: RadixNode): RadixRoot {
  let root = node;
  while (root.parent !== undefined) root = root.parent;
  assert(root instanceof RadixRoot, 'a path begins at the root of a namespace');
  return root;
}

/** How many tokens of `edge` from `at` on equal those of `tokens` from `start` on (R5: equality, never a hash). */
export function agreeingTokens(edge: Int32Array, at: number, tokens: Int32Array, start: number): number {
  const max = Math.min(edge.length - at, tokens.length - start);
  let agreed = 0;
  while (agreed < max && edge[at + agreed] === tokens[start + agreed]) agreed++;
  return agreed;
}

/** The chunk with this index on the path that ends in `node`. It must stand in `node` or above. */
export function chunkAbove(node: RadixNode, index: number, chunkTokens: number): Chunk | undefined {
  let at = node;
  while (at.parent !== undefined && Math.floor(at.start / chunkTokens) > index) at = at.parent;
  return at.chunks[index - Math.floor(at.start / chunkTokens)];
}

/** Tokens on the path up to and including the chunk. O(chunks after it in its node). */
export function chunkEnd(chunk: Chunk, chunkTokens: number): number {
  const { node } = chunk;
  return (Math.floor(node.start / chunkTokens) + node.chunks.lastIndexOf(chunk) + 1) * chunkTokens;
}

/** A chunk with this index on some path through `node`. There is one wherever a path reaches into it. */
export function chunkBelow(node: RadixNode, index: number, chunkTokens: number): Chunk {
  let at = node;
  while (Math.floor(at.end / chunkTokens) <= index) at = at.children!.values().next().value!;
  return at.chunks[index - Math.floor(at.start / chunkTokens)]!;
}

/** The part [start, end) of an edge: in its old buffer if that is used by half or more, else copied out of it. */
function ownedView(edge: Int32Array, start: number, end: number): Int32Array {
  const usedByHalf = (end - start) * 2 * Int32Array.BYTES_PER_ELEMENT > edge.buffer.byteLength;
  return usedByHalf ? edge.subarray(start, end) : edge.slice(start, end);
}

function joined(head: Int32Array, tail: Int32Array): Int32Array {
  const edge = new Int32Array(head.length + tail.length);
  edge.set(head);
  edge.set(tail, head.length);
  return edge;
}
