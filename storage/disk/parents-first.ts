/** Puts chunks in an order in which each comes after its parent. Those whose parent never comes are left over. */
import type { ChunkKey } from '../key.js';

interface Linked {
  readonly key: ChunkKey;
  readonly parent: ChunkKey | undefined;
}

export class ParentsFirst<Chunk extends Linked> {
  readonly #passed = new Set<ChunkKey>();
  /** By the parent that they wait for. */
  readonly #waiting = new Map<ChunkKey, Chunk[]>();

  /** The chunks that can go now: this one, if its parent went, and what waited for it. */
  pass(chunk: Chunk): Chunk[] {
    const { parent } = chunk;
    if (parent !== undefined && !this.#passed.has(parent)) {
      const siblings = this.#waiting.get(parent);
      if (siblings === undefined) this.#waiting.set(parent, [chunk]);
      else siblings.push(chunk);
      return [];
    }
    const ready = [chunk];
    for (const { key } of ready) {
      this.#passed.add(key);
      const children = this.#waiting.get(key);
      if (children === undefined) continue;
      ready.push(...children);
      this.#waiting.delete(key);
    }
    return ready;
  }

  leftOver(): Chunk[] {
    return [...this.#waiting.values()].flat();
  }
}
