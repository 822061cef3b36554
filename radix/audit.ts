/**
 * Recounts a whole tree against what it claims, invariant by invariant (R1–R4 of tree.ts). Changes nothing.
 */
import assert from 'node:assert/strict';
import type { Chunk, ChunkId } from './chunk.js';
import { chunkAbove, type RadixNode, type RadixRoot } from './node.js';
import type { RecencyList } from './recency.js';
import type { Lease, RadixStats } from './tree.js';

interface TreeState {
  readonly chunkTokens: number;
  readonly roots: Iterable<RadixRoot>;
  readonly chunks: ReadonlyMap<ChunkId, Chunk>;
  readonly leases: ReadonlyMap<Lease, readonly Chunk[]>;
  readonly recency: RecencyList;
  readonly stats: RadixStats;
}

export function auditTree(tree: TreeState): void {
  const { chunkTokens, stats } = tree;
  const age = new Map([...tree.recency.ids()].map((id, position) => [id, position]));
  const leasesEndingAt = new Map<Chunk | undefined, number>();
  for (const chunks of tree.leases.values()) {
    leasesEndingAt.set(chunks.at(-1), (leasesEndingAt.get(chunks.at(-1)) ?? 0) + 1);
  }
  const counted = { nodes: 0, tokens: 0, chunks: 0, pinnedChunks: 0 };

  /** Checks a subtree; returns the pins of its topmost chunks, which their parent chunk must carry. */
  function auditNode(node: RadixNode, parent: RadixNode): number {
    counted.nodes++;
    counted.tokens += node.edge.length;
    assert(node.parent === parent);
    assert.equal(node.start, parent.end);
    assert(node.edge.length > 0, 'R1: an edge is never empty');
    assert(parent.children?.get(node.edge[0]!) === node, 'R1: siblings differ in their first token');
    assert(node.children === undefined || node.children.size > 1, 'the path is compressed');
    if (node.children === undefined) assert.equal(node.end % chunkTokens, 0, 'a leaf ends with a chunk');
    assert(node.edge.buffer.byteLength <= 2 * node.edge.byteLength, 'an edge keeps at most twice its length');
    let pins = 0;
    for (const child of node.children?.values() ?? []) pins += auditNode(child, node);
    const firstIndex = Math.floor(node.start / chunkTokens);
    assert.equal(node.chunks.length, Math.floor(node.end / chunkTokens) - firstIndex, 'chunks by their end');
    for (let i = node.chunks.length - 1; i >= 0; i--) {
      const chunk = node.chunks[i]!;
      assert(chunk.node === node);
      assert(tree.chunks.get(chunk.id) === chunk, 'R3: a chunk id stands at one node only');
      pins += leasesEndingAt.get(chunk) ?? 0;
      assert.equal(chunk.pins, pins, 'R2: pins are leases ending here and the pins of the children');
      assert.equal(age.has(chunk.id), pins === 0, 'a chunk is in the eviction order unless pinned');
      auditAge(chunk, firstIndex + i);
      counted.chunks++;
      if (pins > 0) counted.pinnedChunks++;
    }
    return pins;
  }

  function auditAge(chunk: Chunk, index: number): void {
    const before = index > 0 ? chunkAbove(chunk.node, index - 1, chunkTokens) : undefined;
    if (before === undefined || before.pins > 0) return;
    assert(age.get(before.id)! > age.get(chunk.id)!, 'a chunk is newer than its children');
  }

  for (const root of tree.roots) {
    assert(
      root.parent === undefined && root.start === 0 && root.edge.length === 0 && root.chunks.length === 0,
    );
    assert(root.children !== undefined && root.children.size > 0, 'a namespace is not empty');
    for (const child of root.children.values()) auditNode(child, root);
  }
  const claimed = {
    nodes: stats.nodes,
    tokens: stats.tokens,
    chunks: stats.chunks,
    pinnedChunks: stats.pinnedChunks,
  };
  assert.deepEqual(claimed, counted, 'R3: counters equal a recount');
  assert.equal(age.size, counted.chunks - counted.pinnedChunks);
}
