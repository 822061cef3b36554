/** What RadixTree promises, one guarantee a test. Chunks of 4 tokens unless said otherwise. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChunkId, chunkId, RadixTree } from '#radix';

const tokens = (text: string): Int32Array => Int32Array.from(text, (letter) => letter.charCodeAt(0));
const ids = (...numbers: number[]): ChunkId[] => numbers.map(chunkId);

function treeWith(paths: Record<string, number[]>): RadixTree {
  const tree = new RadixTree({ chunkTokens: 4 });
  for (const [text, chunks] of Object.entries(paths)) tree.insert('', tokens(text), ids(...chunks));
  tree.audit();
  return tree;
}

test('an empty tree matches nothing', () => {
  assert.deepEqual(new RadixTree().match('', tokens('abcd')), { chunks: [], tokens: 0 });
});

test('a prompt matches the whole chunks of its prefix, and no more', () => {
  const tree = treeWith({ aaaabbbbcccc: [1, 2, 3] });
  assert.deepEqual(tree.match('', tokens('aaaabbbbxxxx')), { chunks: [1, 2], tokens: 8 });
  assert.deepEqual(tree.match('', tokens('aaaabbbbccccdddd')), { chunks: [1, 2, 3], tokens: 12 });
  assert.deepEqual(tree.match('', tokens('xaaabbbb')), { chunks: [], tokens: 0 });
});

test('a prompt that leaves a chunk in its middle reuses the rows before the divergence', () => {
  const tree = treeWith({ aaaabbbbcccc: [1, 2, 3] });
  assert.deepEqual(tree.match('', tokens('aaaabbxx')), {
    chunks: [1],
    tokens: 4,
    partial: { chunk: 2, rows: 2 },
  });
});

test('a prompt that ends in the middle of a chunk reuses its rows', () => {
  const tree = treeWith({ aaaabbbb: [1, 2] });
  assert.deepEqual(tree.match('', tokens('aaa')), { chunks: [], tokens: 0, partial: { chunk: 1, rows: 3 } });
});

test('rows are reused from a chunk that ends below a split in its middle', () => {
  const tree = treeWith({ aaaabbxx: [1, 2], aaaabbyy: [1, 3] });
  const match = tree.match('', tokens('aaaabbzz'));
  assert.equal(match.partial?.rows, 2);
  assert(match.partial.chunk === 2 || match.partial.chunk === 3);
});

test('namespaces share nothing', () => {
  const tree = new RadixTree({ chunkTokens: 4 });
  tree.insert('one', tokens('aaaa'), ids(1));
  assert.deepEqual(tree.match('two', tokens('aaaa')), { chunks: [], tokens: 0 });
  tree.insert('two', tokens('aaaa'), ids(2));
  assert.deepEqual(tree.match('two', tokens('aaaa')).chunks, [2]);
  assert.deepEqual(tree.clear('one'), [1]);
  assert.deepEqual(tree.match('two', tokens('aaaa')).chunks, [2]);
  assert.equal(tree.stats().namespaces, 1);
  tree.audit();
});

test('inserting what is there keeps it and returns the duplicates of the loser', () => {
  const tree = treeWith({ aaaabbbb: [1, 2] });
  const before = tree.stats();
  const again = tree.insert('', tokens('aaaabbbb'), ids(1, 2));
  assert.deepEqual(again, { chunks: [1, 2], duplicates: [] });
  assert.deepEqual(tree.stats(), before);
  const lost = tree.insert('', tokens('aaaabbbbcccc'), ids(7, 2, 9));
  assert.deepEqual(lost, { chunks: [1, 2, 9], duplicates: [{ given: 7, kept: 1 }] });
  assert(!tree.has(chunkId(7)));
  tree.audit();
});

test('a chunk id can stand at one node only', () => {
  const tree = treeWith({ aaaa: [1] });
  assert.throws(() => tree.insert('', tokens('bbbb'), ids(1)), { name: 'AssertionError' });
});

test('tokens beyond the last whole chunk are not inserted', () => {
  const tree = new RadixTree({ chunkTokens: 4 });
  tree.insert('', tokens('aaaabb'), ids(1));
  assert.equal(tree.stats().tokens, 4);
  assert.throws(() => tree.insert('', tokens('aaaabb'), ids(1, 2)), { name: 'AssertionError' });
});

test("the tree keeps no hold on the caller's tokens", () => {
  const tree = new RadixTree({ chunkTokens: 4 });
  const prompt = tokens('aaaabbbb');
  tree.insert('', prompt, ids(1, 2));
  prompt.fill(0);
  assert.deepEqual(tree.match('', tokens('aaaabbbb')).chunks, [1, 2]);
});

test('the path is compressed: a run without branches is one node, also after removals', () => {
  const tree = treeWith({ aaaabbbbcccc: [1, 2, 3] });
  assert.equal(tree.stats().nodes, 1);
  tree.insert('', tokens('aaaabbxx'), ids(1, 4));
  assert.deepEqual([tree.stats().nodes, tree.stats().tokens], [3, 14]);
  tree.remove(chunkId(4));
  tree.audit();
  assert.deepEqual([tree.stats().nodes, tree.stats().tokens], [1, 12]);
  assert.deepEqual(tree.match('', tokens('aaaabbbbcccc')).chunks, [1, 2, 3]);
});

test('a lease survives splits, extensions and merges of its edge', () => {
  const tree = treeWith({ aaaabbbbcccc: [1, 2, 3] });
  const lease = tree.lease(tree.match('', tokens('aaaabbbb')));
  tree.insert('', tokens('aaxx'), ids(4));
  tree.insert('', tokens('aaaabbbbccccdddd'), ids(1, 2, 3, 5));
  tree.audit();
  assert.deepEqual(new Set(tree.evictionOrder()), new Set([3, 4, 5]));
  tree.remove(chunkId(4));
  tree.audit();
  assert.throws(() => tree.remove(chunkId(2)), { name: 'AssertionError' });
  tree.release(lease);
  tree.audit();
  assert.deepEqual([...tree.evictionOrder()], [5, 3, 2, 1]);
});

test('a lease pins exactly the chunks it names, the partial one too', () => {
  const tree = treeWith({ aaaabbbbcccc: [1, 2, 3] });
  const lease = tree.lease(tree.match('', tokens('aaaabb')));
  assert.deepEqual(lease.chunks, [1, 2]);
  assert.equal(tree.victim(), 3);
  tree.remove(chunkId(3));
  assert.equal(tree.victim(), undefined);
  tree.release(lease);
  assert.equal(tree.victim(), 2);
});

test('a chunk stays pinned until its last lease is released', () => {
  const tree = treeWith({ aaaa: [1] });
  const first = tree.lease(tree.match('', tokens('aaaa')));
  const second = tree.lease(tree.match('', tokens('aaaa')));
  tree.release(first);
  assert.equal(tree.victim(), undefined);
  assert.throws(() => tree.release(first), { name: 'AssertionError' });
  tree.release(second);
  assert.equal(tree.victim(), 1);
});

test('a match that no longer holds cannot be leased', () => {
  const tree = treeWith({ aaaabbbb: [1, 2] });
  const stale = tree.match('', tokens('aaaabbbb'));
  tree.remove(chunkId(2));
  assert.throws(() => tree.lease(stale), { name: 'AssertionError' });
  tree.insert('', tokens('cccc'), ids(2));
  assert.throws(() => tree.lease(stale), { name: 'AssertionError' }, 'the id was used again elsewhere');
  tree.audit();
});

test('only a leaf chunk can be removed', () => {
  const tree = treeWith({ aaaabbbb: [1, 2], aaaacccc: [1, 3] });
  assert.throws(() => tree.remove(chunkId(1)), { name: 'AssertionError' });
  assert.throws(() => tree.remove(chunkId(9)), { name: 'AssertionError' });
  for (const id of ids(2, 3, 1)) tree.remove(id);
  tree.audit();
  assert.deepEqual([tree.stats().nodes, tree.stats().namespaces, tree.stats().tokens], [0, 0, 0]);
});

test('the least recently used leaf goes first, and every prefix of the eviction order can go', () => {
  const tree = treeWith({ aaaabbbb: [1, 2], aaaacccc: [1, 3], dddd: [4] });
  tree.match('', tokens('aaaabbbb'));
  assert.deepEqual([...tree.evictionOrder()], [3, 4, 2, 1]);
  for (const id of tree.evictionOrder()) {
    tree.remove(id);
    tree.audit();
  }
  assert.equal(tree.victim(), undefined);
});

test('clear forgets what is unpinned and returns it', () => {
  const tree = treeWith({ aaaabbbb: [1, 2], aaaacccc: [1, 3], dddd: [4] });
  const lease = tree.lease(tree.match('', tokens('aaaabbbb')));
  assert.deepEqual(tree.clear('nobody'), []);
  assert.deepEqual(new Set(tree.clear()), new Set([3, 4]));
  tree.audit();
  tree.release(lease);
  assert.deepEqual(tree.clear(''), [2, 1]);
  tree.audit();
});
