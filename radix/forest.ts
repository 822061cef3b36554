/**
 * The shape of the trees: one root per namespace, the nodes under it, and the count of nodes and tokens.
 *
 * A namespace has a root as long as it has a chunk. Knows where a path leads, grows and shortens; knows no leases,
 * no order of use, and no chunk ids.
 */
import type { Chunk } from './chunk.js';
import { agreeingTokens, RadixNode, RadixRoot } from './node.js';

/** How far a path agrees with the tree. */
interface Walk {
  /** The last node reached: the path leaves in its edge or at its end. */
  readonly node: RadixNode;
  /** Tokens that agree. */
  readonly depth: number;
  /** The chunks whose tokens all agree, from token 0. */
  readonly chunks: Chunk[];
}

export class Forest {
  readonly #chunkTokens: number;
  readonly #roots = new Map<string, RadixRoot>();
  #nodes = 0;
  #tokens = 0;

  constructor(chunkTokens: number) {
    this.#chunkTokens = chunkTokens;
  }

  get namespaces(): number {
    return this.#roots.size;
  }

  /** Without the roots. */
  get nodes(): number {
    return this.#nodes;
  }

  /** In all edges. */
  get tokens(): number {
    return this.#tokens;
  }

  roots(): Iterable<RadixRoot> {
    return this.#roots.values();
  }

  root(namespace: string): RadixRoot | undefined {
    return this.#roots.get(namespace);
  }

  /** The root of a namespace, made if missing. The caller goes on to `grow` it, since a namespace is never empty. */
  plant(namespace: string): RadixRoot {
    let root = this.#roots.get(namespace);
    if (root === undefined) {
      root = new RadixRoot(namespace);
      this.#roots.set(namespace, root);
    }
    return root;
  }

  /** Follows `tokens` from the root as far as they agree. O(tokens). */
  walk(root: RadixRoot, tokens: Int32Array): Walk {
    return this.walkOn(root, 0, tokens);
  }

  /** Follows `tokens` from token `start` of the paths through `node` on, where that lies in its edge or at its end. */
  walkOn(from: RadixNode, start: number, tokens: Int32Array): Walk {
    const first = Math.floor(start / this.#chunkTokens);
    const end = start + tokens.length;
    const chunks: Chunk[] = [];
    let node = from;
    let depth = start;
    while (true) {
      depth += agreeingTokens(node.edge, depth - node.start, tokens, depth - start);
      const above = Math.floor(node.start / this.#chunkTokens);
      const whole = Math.floor(depth / this.#chunkTokens);
      for (let i = first + chunks.length; i < whole; i++) chunks.push(node.chunks[i - above]!);
      const child = depth < end && depth === node.end && node.children?.get(tokens[depth - start]!);
      if (!child) return { node, depth, chunks };
      node = child;
    }
  }

  /**
   * Adds the tokens `rest` after `depth` tokens of a path, where `walk` left it in `node`. Returns the leaf in which
   * the path now ends; the caller hangs the new chunks there. What is kept of `rest` is not copied.
   */
  grow(node: RadixNode, depth: number, rest: Int32Array): RadixNode {
    this.#tokens += rest.length;
    if (node.parent !== undefined && node.children === undefined && depth === node.end) {
      node.extend(rest);
      return node;
    }
    let above = node;
    if (depth < node.end) {
      const firstIndex = Math.floor(node.start / this.#chunkTokens);
      above = node.split(depth, Math.floor(depth / this.#chunkTokens) - firstIndex);
      this.#nodes++;
    }
    const leaf = new RadixNode(above, depth, rest);
    above.adopt(leaf);
    this.#nodes++;
    return leaf;
  }

  /** Takes the last chunk off a leaf, and the tokens no other chunk needs. O(1) amortised, but for a merge. */
  shorten(leaf: RadixNode): void {
    leaf.chunks.pop();
    if (leaf.chunks.length > 0) {
      leaf.trim(this.#chunkTokens);
      this.#tokens -= this.#chunkTokens;
      return;
    }
    const parent = leaf.parent!;
    const siblings = parent.children!;
    siblings.delete(leaf.edge[0]!);
    this.#nodes--;
    this.#tokens -= leaf.edge.length;
    if (parent instanceof RadixRoot) {
      if (siblings.size === 0) this.#roots.delete(parent.namespace);
    } else if (siblings.size === 1) {
      for (const only of siblings.values()) only.mergeIntoParent();
      this.#nodes--;
    }
  }
}
