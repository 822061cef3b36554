/** The audit finds what it is there to find: a tree broken by hand, one invariant at a time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { auditTree } from '../../radix/audit.js';
import { Chunk, chunkId } from '../../radix/chunk.js';
import { RadixNode, RadixRoot } from '../../radix/node.js';
import { RecencyList } from '../../radix/recency.js';
import type { Lease } from '../../radix/tree.js';

/** A sound tree with chunks of 2 tokens: chunk 1 = [5, 5], below it chunk 2 = [6, 6] and chunk 3 = [7, 7]. */
function soundTree() {
  const root = new RadixRoot('');
  const top = new RadixNode(root, 0, Int32Array.of(5, 5));
  const left = new RadixNode(top, 2, Int32Array.of(6, 6));
  const right = new RadixNode(top, 2, Int32Array.of(7, 7));
  root.adopt(top);
  top.adopt(left);
  top.adopt(right);
  const recency = new RecencyList();
  const chunks = new Map<ReturnType<typeof chunkId>, Chunk>();
  for (const [id, node] of [
    [3, right],
    [2, left],
    [1, top],
  ] as const) {
    const chunk = new Chunk(chunkId(id), node);
    node.chunks.push(chunk);
    chunks.set(chunk.id, chunk);
    recency.touch(chunk);
  }
  const stats = { namespaces: 1, nodes: 3, chunks: 3, pinnedChunks: 0, leases: 0, tokens: 6, bytes: 0 };
  const leases = new Map<Lease, Chunk[]>();
  return { chunkTokens: 2, roots: [root], chunks, leases, recency, stats, root, top, left, right };
}
type Tree = ReturnType<typeof soundTree>;

const breaks: Record<string, (tree: Tree) => unknown> = {
  'a child under the wrong first token': ({ left }) => {
    left.edge[0] = 9;
  },
  'an empty edge': ({ left }) => {
    left.edge = new Int32Array(0);
  },
  'a chain that should be one edge': ({ top }) => top.children?.delete(7),
  'a leaf that ends inside a chunk': ({ left }) => {
    left.edge = Int32Array.of(6, 6, 6);
  },
  'a pin without a lease': ({ left }) => left.chunks[0]!.pins++,
  'a lease without pins': ({ leases, left }) => leases.set({ chunks: [] }, [left.chunks[0]!]),
  'an id that stands twice': ({ left, right }) => {
    left.chunks = [new Chunk(right.chunks[0]!.id, left)];
  },
  'a missing chunk': ({ left }) => left.chunks.pop(),
  'a wrong count': ({ stats }) => Object.assign(stats, { tokens: 7 }),
  'an unpinned chunk that cannot be evicted': ({ recency, left }) => recency.delete(left.chunks[0]!),
  'a child newer than its parent': ({ recency, left }) => recency.touch(left.chunks[0]!),
  'an edge that holds on to a long buffer': ({ left }) => {
    left.edge = Int32Array.of(6, 6, 0, 0, 0).subarray(0, 2);
  },
  'an empty namespace': ({ root }) => root.children?.clear(),
};

test('a sound tree passes', () => auditTree(soundTree()));

for (const [name, breakIt] of Object.entries(breaks)) {
  test(`the audit finds ${name}`, () => {
    const tree = soundTree();
    breakIt(tree);
    assert.throws(() => auditTree(tree), { name: 'AssertionError' });
  });
}
