/**
 * Which KV chunks are cached for a prefix of tokens: a token-exact, path-compressed radix tree, one per namespace.
 *
 * Invariants (see `audit`):
 * - R1 siblings differ in their first token; an edge is never empty.
 * - R2 pins(chunk) = leases ending there + Σ pins(child chunks); only an unpinned leaf chunk is removed.
 * - R3 counters equal a recount; a chunk id stands at one node only.
 * - R4 splits and merges keep every (prefix → chunk), pin and recency; insert is idempotent and returns the
 *   loser's duplicates.
 * - R5 a hit is believed only after the tokens compare equal.
 *
 * Life of a chunk: `insert` → found by `match` → pinned by `lease` … `release` → `remove`, or named by `victim`.
 * Knows no bytes, no tiers, no clock and no I/O; recency is the order of calls. A broken invariant or a misuse is an
 * assertion, since a wrong tree could serve wrong KV.
 */
import assert from 'node:assert/strict';
import { auditTree } from './audit.js';
import { Chunk, type ChunkId } from './chunk.js';
import { Forest } from './forest.js';
import { chunkAbove, chunkBelow, chunkEnd, type RadixNode, rootOf } from './node.js';
import {
  childrenOf,
  type NodeOutline,
  nodeAt,
  nodesFrom,
  type Parting,
  type Place,
  tokensAfter,
} from './outline.js';
import { RecencyList } from './recency.js';

/** The cached part of a prompt. Valid until the next call that changes the tree: lease it at once to keep it. */
export interface Match {
  /** Whole chunks, contiguous from token 0. */
  readonly chunks: readonly ChunkId[];
  /** Tokens the whole chunks cover: `chunks.length * chunkTokens`. */
  readonly tokens: number;
  /** The chunk that follows, if its first `rows` rows agree with the prompt too: `0 < rows < chunkTokens`. */
  readonly partial?: { readonly chunk: ChunkId; readonly rows: number };
}

export interface InsertResult {
  /** The chunks that now stand on the path, one per inserted chunk. */
  readonly chunks: readonly ChunkId[];
  /** Where a chunk stood already it is `kept`, and the `given` one has no place in the tree: free it. */
  readonly duplicates: readonly { readonly given: ChunkId; readonly kept: ChunkId }[];
}

/** Keeps chunks from removal until released. */
export interface Lease {
  readonly chunks: readonly ChunkId[];
}

export interface RadixStats {
  readonly namespaces: number;
  /** Without the roots. */
  readonly nodes: number;
  readonly chunks: number;
  readonly pinnedChunks: number;
  readonly leases: number;
  /** Tokens in edges: a shared prefix counts once. */
  readonly tokens: number;
  /** Estimated memory of the tree itself (not of the KV). */
  readonly bytes: number;
}

// Measured by heap difference on 64-bit Node 20; see bench/radix.bench.ts.
const NODE_BYTES = 460;
const CHUNK_BYTES = 110;

export class RadixTree {
  readonly chunkTokens: number;
  readonly #forest: Forest;
  readonly #chunks = new Map<ChunkId, Chunk>();
  readonly #leases = new Map<Lease, readonly Chunk[]>();
  /** Unpinned chunks. */
  readonly #recency = new RecencyList();
  #pinnedChunks = 0;

  constructor(options: { readonly chunkTokens?: number } = {}) {
    this.chunkTokens = options.chunkTokens ?? 64;
    assert(Number.isSafeInteger(this.chunkTokens) && this.chunkTokens > 0);
    this.#forest = new Forest(this.chunkTokens);
  }

  /**
   * The longest cached prefix of `tokens`, and makes it the most recently used. O(tokens); copies no tokens.
   * It may cover the whole prompt: who must compute the last token (for its logits) passes a view without it.
   */
  match(namespace: string, tokens: Int32Array): Match {
    const root = this.#forest.root(namespace);
    if (root === undefined) return { chunks: [], tokens: 0 };
    const { node, depth, chunks } = this.#forest.walk(root, tokens);
    const whole = chunks.length * this.chunkTokens;
    const partial = depth > whole ? chunkBelow(node, chunks.length, this.chunkTokens) : undefined;
    this.#touch(partial === undefined ? chunks : [...chunks, partial]);
    return {
      chunks: chunks.map((chunk) => chunk.id),
      tokens: whole,
      ...(partial && { partial: { chunk: partial.id, rows: depth - whole } }),
    };
  }

  /**
   * Names the chunks of a prefix: `chunkIds[i]` holds tokens [i·c, (i+1)·c). Tokens beyond the last whole chunk are
   * ignored, and what is kept of `tokens` is copied. The path becomes the most recently used. Asserts that an id new
   * to the path stands nowhere else.
   */
  insert(namespace: string, tokens: Int32Array, chunkIds: readonly ChunkId[]): InsertResult {
    const end = chunkIds.length * this.chunkTokens;
    assert(tokens.length >= end, 'every inserted chunk has its tokens');
    if (end === 0) return { chunks: [], duplicates: [] };
    const path = tokens.subarray(0, end);
    const { node, depth, chunks } = this.#forest.walk(this.#forest.plant(namespace), path);
    const duplicates = [];
    for (const [i, { id: kept }] of chunks.entries()) {
      const given = chunkIds[i]!;
      if (given === kept) continue;
      assert(!this.#chunks.has(given), 'a chunk id stands at one node only');
      duplicates.push({ given, kept });
    }
    if (depth < end) {
      const leaf = this.#forest.grow(node, depth, path.slice(depth));
      for (const id of chunkIds.slice(chunks.length)) chunks.push(this.#place(id, leaf));
    }
    this.#touch(chunks);
    return { chunks: chunks.map((chunk) => chunk.id), duplicates };
  }

  /**
   * Names one more chunk: `tokens` (one chunk's) after the chunk `parent`, or at the start of the namespace. Needs no
   * tokens before it, and is no use of the chunks above. Returns the chunk that stands there now: another one, where
   * one stood already. Asserts that the parent stands in that namespace, and a new id nowhere.
   */
  append(chunk: {
    readonly namespace: string;
    readonly parent: ChunkId | undefined;
    readonly tokens: Int32Array;
    readonly id: ChunkId;
  }): ChunkId {
    const { namespace, tokens, id } = chunk;
    assert.equal(tokens.length, this.chunkTokens);
    assert(!this.#chunks.has(id), 'a chunk id stands at one node only');
    const parent = chunk.parent === undefined ? undefined : this.#standing(chunk.parent);
    const from = parent?.node ?? this.#forest.plant(namespace);
    assert(rootOf(from) === this.#forest.root(namespace), 'the parent stands in the namespace');
    const start = parent === undefined ? 0 : chunkEnd(parent, this.chunkTokens);
    const { node, depth, chunks } = this.#forest.walkOn(from, start, tokens);
    const [kept] = chunks;
    if (kept !== undefined) return kept.id;
    const leaf = this.#forest.grow(node, depth, tokens.slice(depth - start));
    const placed = this.#place(id, leaf);
    if (parent === undefined || parent.pins > 0) this.#recency.touch(placed);
    else this.#recency.insertBelow(placed, parent);
    return id;
  }

  /**
   * Pins the chunks of a match (its partial chunk too) or of an insert, until `release`. Every lease must be
   * released once. Asserts that the chunks still stand as one path, so a match must be leased before the tree
   * changes.
   */
  lease(path: { readonly chunks: readonly ChunkId[]; readonly partial?: Match['partial'] }): Lease {
    const ids = path.partial ? [...path.chunks, path.partial.chunk] : path.chunks;
    const chunks = ids.map((id) => this.#standing(id));
    for (let i = chunks.length - 1; i >= 0; i--) {
      const below = chunks[i + 1] ?? chunks[i]!;
      assert(chunkAbove(below.node, i, this.chunkTokens) === chunks[i], 'leased chunks are one path');
    }
    for (const chunk of chunks) {
      if (chunk.pins === 0) {
        this.#recency.delete(chunk);
        this.#pinnedChunks++;
      }
      chunk.pins++;
    }
    const lease = { chunks: ids };
    this.#leases.set(lease, chunks);
    return lease;
  }

  /** Ends a lease. Chunks that no other lease holds become the most recently used. */
  release(lease: Lease): void {
    const chunks = this.#leases.get(lease);
    assert(chunks !== undefined, 'a lease is released once, by the tree that gave it');
    this.#leases.delete(lease);
    for (const chunk of chunks) {
      chunk.pins--;
      if (chunk.pins === 0) this.#pinnedChunks--;
    }
    this.#touch(chunks);
  }

  /** Of a chunk that stands here. */
  namespaceOf(id: ChunkId): string {
    return rootOf(this.#standing(id).node).namespace;
  }

  has(id: ChunkId): boolean {
    return this.#chunks.has(id);
  }

  /** How many chunks of a path stand in each of its nodes, from the first one on. Not a use. O(path). */
  nodesOf(path: readonly ChunkId[]): number[] {
    const counts: number[] = [];
    let last: RadixNode | undefined;
    for (const id of path) {
      const { node } = this.#standing(id);
      if (node === last) counts[counts.length - 1]!++;
      else counts.push(1);
      last = node;
    }
    return counts;
  }

  /** Forgets one chunk. Asserts that it stands here, unpinned and with no chunk after it. */
  remove(id: ChunkId): void {
    const chunk = this.#standing(id);
    assert(chunk.pins === 0, 'a pinned chunk is never removed');
    assert(this.isRemovable(id), 'only a leaf chunk is removed');
    this.#recency.delete(chunk);
    this.#chunks.delete(id);
    this.#forest.shorten(chunk.node);
  }

  /** Whether `remove` would accept it: it stands here, unpinned and with no chunk after it. */
  isRemovable(id: ChunkId): boolean {
    const chunk = this.#chunks.get(id);
    return chunk !== undefined && chunk.pins === 0 && isLeaf(chunk);
  }

  /**
   * The cached chunks of the prefix `tokens` that no other prefix needs, deepest first: none when a chunk follows. A
   * shorter prefix that was inserted too is not told from a part of this one. Not a use.
   */
  ownChunks(namespace: string, tokens: Int32Array): ChunkId[] {
    const root = this.#forest.root(namespace);
    const last = root && this.#forest.walk(root, tokens).chunks.at(-1);
    if (last === undefined || !isLeaf(last)) return [];
    // Where paths part there is a node that has a child for each.
    return last.node.chunks.map((chunk) => chunk.id).toReversed();
  }

  /** Every chunk of a namespace, each after those it stands behind. Not a use. */
  chunksOf(namespace: string): ChunkId[] {
    const root = this.#forest.root(namespace);
    const nodes = root === undefined ? [] : [...nodesFrom(root)];
    return nodes.flatMap(({ chunks }) => chunks.map(({ id }) => id));
  }

  /**
   * The chunks of `tokens`, and of all that goes on from them: `own`, and `shared` with paths that go on otherwise. Each
   * comes after those it stands behind. Where `tokens` end within a chunk, all chunks that agree so far go on from them.
   * Not a use.
   */
  chunksAlong(
    namespace: string,
    tokens: Int32Array,
  ): { readonly shared: readonly ChunkId[]; readonly own: readonly ChunkId[] } {
    const root = this.#forest.root(namespace);
    if (root === undefined) return { shared: [], own: [] };
    const { node, depth, chunks } = this.#forest.walk(root, tokens);
    const goesOn = depth === tokens.length || (depth === node.end && node.children === undefined);
    // Where paths part there is a node: those above this one lead to others too.
    const own = goesOn ? [...nodesFrom(node)].flatMap((each) => each.chunks) : [];
    const shared = goesOn ? chunks.filter((chunk) => chunk.node !== node) : chunks;
    return { shared: shared.map(({ id }) => id), own: own.map(({ id }) => id) };
  }

  /** Every namespace that has a chunk. */
  namespaces(): string[] {
    return Array.from(this.#forest.roots(), ({ namespace }) => namespace);
  }

  /** How many of `tokens` agree with what is cached, and up to `count` tokens that stand there instead. Not a use. */
  parting(namespace: string, tokens: Int32Array, count: number): Parting {
    const root = this.#forest.root(namespace);
    if (root === undefined) return { depth: 0, next: new Int32Array() };
    const { node, depth } = this.#forest.walk(root, tokens);
    return { depth, next: tokensAfter(node, depth, count) };
  }

  /** The nodes right below a place: none where there is no such place. Not a use. */
  outline(namespace: string, place: Place): NodeOutline[] {
    const root = this.#forest.root(namespace);
    const node = root && nodeAt(root, place);
    return node === undefined ? [] : childrenOf(node, place);
  }

  /** The least recently used chunk that `remove` accepts; undefined when every chunk is pinned. O(1). */
  victim(): ChunkId | undefined {
    return this.#recency.oldest?.id;
  }

  /** All unpinned chunks, least recently used first. In this order each may be removed, also while iterating. */
  evictionOrder(): Generator<ChunkId, void, undefined> {
    return this.#recency.ids();
  }

  /** Forgets every unpinned chunk, of one namespace or of all; returns their ids, for the bytes to go too. O(chunks). */
  clear(namespace?: string): ChunkId[] {
    const root = namespace === undefined ? undefined : this.#forest.root(namespace);
    const removed: ChunkId[] = [];
    if (namespace !== undefined && root === undefined) return removed;
    for (const id of this.evictionOrder()) {
      if (root !== undefined && rootOf(this.#standing(id).node) !== root) continue;
      this.remove(id);
      removed.push(id);
    }
    return removed;
  }

  stats(): RadixStats {
    const { namespaces, nodes, tokens } = this.#forest;
    const chunks = this.#chunks.size;
    const bytes = tokens * Int32Array.BYTES_PER_ELEMENT + nodes * NODE_BYTES + chunks * CHUNK_BYTES;
    const leases = this.#leases.size;
    return { namespaces, nodes, chunks, pinnedChunks: this.#pinnedChunks, leases, tokens, bytes };
  }

  /** Recounts everything and throws an `AssertionError` on a broken invariant. O(tree): for tests and idle times. */
  audit(): void {
    auditTree({
      chunkTokens: this.chunkTokens,
      roots: this.#forest.roots(),
      chunks: this.#chunks,
      leases: this.#leases,
      recency: this.#recency,
      stats: this.stats(),
    });
  }

  #place(id: ChunkId, leaf: RadixNode): Chunk {
    assert(!this.#chunks.has(id), 'a chunk id stands at one node only');
    const chunk = new Chunk(id, leaf);
    this.#chunks.set(id, chunk);
    leaf.chunks.push(chunk);
    return chunk;
  }

  /** Makes the unpinned chunks of a path the newest, parents newer than children. */
  #touch(path: readonly Chunk[]): void {
    for (let i = path.length - 1; i >= 0; i--) {
      const chunk = path[i]!;
      if (chunk.pins === 0) this.#recency.touch(chunk);
    }
  }

  #standing(id: ChunkId): Chunk {
    const chunk = this.#chunks.get(id);
    assert(chunk !== undefined, 'the chunk stands in the tree');
    return chunk;
  }
}

/** No chunk follows it. */
function isLeaf(chunk: Chunk): boolean {
  return chunk.node.children === undefined && chunk.node.chunks.at(-1) === chunk;
}
