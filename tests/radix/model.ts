/** RadixTree as a list of chunks with their whole prefixes: slow, and too simple to be wrong. */

interface ModelChunk {
  readonly id: number;
  readonly namespace: string;
  /** All tokens up to the chunk's end. */
  readonly prefix: readonly number[];
  pins: number;
  usedAt: number;
}

export class RadixModel {
  chunks: ModelChunk[] = [];
  readonly #chunkTokens: number;
  #uses = 0;

  constructor(chunkTokens: number) {
    this.#chunkTokens = chunkTokens;
  }

  /** The whole chunks of the path, and how many rows of the next one agree (`nextOf` lists the candidates). */
  match(namespace: string, tokens: readonly number[]) {
    const whole = this.#whole(namespace, tokens);
    const done = whole.length * this.#chunkTokens;
    let rows = 0;
    let nextIds: number[] = [];
    for (let r = 1; r < this.#chunkTokens && done + r <= tokens.length; r++) {
      const head = tokens.slice(0, done + r);
      const next = this.chunks.filter(
        (c) =>
          c.namespace === namespace &&
          c.prefix.length === done + this.#chunkTokens &&
          startsWith(c.prefix, head),
      );
      if (next.length === 0) break;
      rows = r;
      nextIds = next.map((c) => c.id);
    }
    return { chunks: whole.map((c) => c.id), rows, nextIds };
  }

  /** Makes chunks the most recently used, a parent more recent than its child. `ids` are a path from the root. */
  touch(ids: readonly number[]): void {
    for (const id of ids.toReversed()) {
      const chunk = this.get(id);
      if (chunk.pins === 0) chunk.usedAt = ++this.#uses;
    }
  }

  /** One more chunk after `parent`; it goes just before its parent in the order of use. */
  append(namespace: string, parent: number | undefined, own: readonly number[], id: number): number {
    const above = parent === undefined ? undefined : this.get(parent);
    const prefix = [...(above?.prefix ?? []), ...own];
    const kept = this.#whole(namespace, prefix)[prefix.length / this.#chunkTokens - 1];
    if (kept !== undefined) return kept.id;
    let usedAt: number;
    if (above === undefined || above.pins > 0) usedAt = ++this.#uses;
    else {
      const older = this.chunks.map((c) => c.usedAt).filter((at) => at < above.usedAt);
      usedAt = (Math.max(above.usedAt - 1, ...older) + above.usedAt) / 2;
    }
    this.chunks.push({ id, namespace, prefix, pins: 0, usedAt });
    return id;
  }

  insert(namespace: string, tokens: readonly number[], ids: readonly number[]) {
    const standing = this.#whole(namespace, tokens.slice(0, ids.length * this.#chunkTokens)).map((c) => c.id);
    const duplicates = standing.flatMap((kept, i) => (kept === ids[i] ? [] : [{ given: ids[i]!, kept }]));
    for (let i = standing.length; i < ids.length; i++) {
      const prefix = tokens.slice(0, (i + 1) * this.#chunkTokens);
      this.chunks.push({ id: ids[i]!, namespace, prefix, pins: 0, usedAt: 0 });
      standing.push(ids[i]!);
    }
    this.touch(standing);
    return { chunks: standing, duplicates };
  }

  pin(ids: readonly number[]): void {
    for (const id of ids) this.get(id).pins++;
  }

  unpin(ids: readonly number[]): void {
    for (const id of ids) this.get(id).pins--;
    this.touch(ids);
  }

  get(id: number): ModelChunk {
    const chunk = this.chunks.find((c) => c.id === id);
    if (chunk === undefined) throw new Error(`chunk ${id} is not in the model`);
    return chunk;
  }

  /** Whether `remove` must be accepted. */
  isRemovable(id: number): boolean {
    const { pins, namespace, prefix } = this.get(id);
    return (
      pins === 0 &&
      !this.chunks.some((c) => c.id !== id && c.namespace === namespace && startsWith(c.prefix, prefix))
    );
  }

  /** Chunks of the path that are on no other one, deepest first; none when a chunk follows the path. */
  ownChunks(namespace: string, tokens: readonly number[]): number[] {
    const path = this.#whole(namespace, tokens);
    const isOwn = ({ prefix }: ModelChunk) =>
      this.chunks.every(
        (c) => c.namespace !== namespace || !startsWith(c.prefix, prefix) || path.includes(c),
      );
    return path
      .filter(isOwn)
      .map((c) => c.id)
      .toReversed();
  }

  remove(id: number): void {
    this.chunks = this.chunks.filter((c) => c.id !== id);
  }

  evictionOrder(): number[] {
    return this.chunks
      .filter((c) => c.pins === 0)
      .sort((a, b) => a.usedAt - b.usedAt)
      .map((c) => c.id);
  }

  #whole(namespace: string, tokens: readonly number[]): ModelChunk[] {
    return this.chunks
      .filter((c) => c.namespace === namespace && startsWith(tokens, c.prefix))
      .sort((a, b) => a.prefix.length - b.prefix.length);
  }
}

function startsWith(tokens: readonly number[], head: readonly number[]): boolean {
  return head.length <= tokens.length && head.every((token, i) => token === tokens[i]);
}
