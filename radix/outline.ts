/**
 * The tree as one looks at it: where a path leaves it, and what stands below a node. Read only, and no use.
 *
 * A node is named by its *place*: the first token of each edge from the root to it (R1 makes it unique).
 */
import type { ChunkId } from './chunk.js';
import type { RadixNode } from './node.js';

export type Place = readonly number[];

/** Where a path leaves what is cached. */
export interface Parting {
  /** Tokens that agree. */
  readonly depth: number;
  /** What stands there instead. */
  readonly next: Int32Array;
}

/** One node, and what stands in it and below. */
export interface NodeOutline {
  readonly place: Place;
  /** Tokens on the path before its edge. */
  readonly start: number;
  readonly tokens: Int32Array;
  readonly chunks: readonly ChunkId[];
  readonly children: number;
  /** The chunks of all nodes below it. */
  readonly chunksBelow: number;
}

export function childrenOf(node: RadixNode, place: Place): NodeOutline[] {
  return [...(node.children ?? [])].map(([first, child]) => ({
    place: [...place, first],
    start: child.start,
    tokens: child.edge,
    chunks: child.chunks.map(({ id }) => id),
    children: child.children?.size ?? 0,
    chunksBelow: countBelow(child),
  }));
}

/** The node of a place; undefined when there is none. */
export function nodeAt(root: RadixNode, place: Place): RadixNode | undefined {
  let node: RadixNode | undefined = root;
  for (const first of place) node = node?.children?.get(first);
  return node;
}

/** All nodes from one on, it and its children first. */
export function* nodesFrom(node: RadixNode): Generator<RadixNode, void, undefined> {
  yield node;
  for (const child of node.children?.values() ?? []) yield* nodesFrom(child);
}

/** Up to `count` tokens that one path through `node` goes on with after `depth`: the newest where paths part. */
export function tokensAfter(node: RadixNode, depth: number, count: number): Int32Array {
  const tokens: number[] = [];
  for (let at: RadixNode | undefined = node, from = depth; at !== undefined && tokens.length < count; ) {
    tokens.push(...at.edge.subarray(from - at.start, from - at.start + count - tokens.length));
    from = at.end;
    at = [...(at.children?.values() ?? [])].at(-1);
  }
  return Int32Array.from(tokens);
}

function countBelow(node: RadixNode): number {
  let count = -node.chunks.length;
  for (const { chunks } of nodesFrom(node)) count += chunks.length;
  return count;
}
