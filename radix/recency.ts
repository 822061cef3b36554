/**
 * The order in which unpinned chunks were last used, oldest first: a linked list through the chunks themselves.
 *
 * There is no clock; the order is all there is. Whoever touches a path touches it deepest chunk first, and pinned
 * chunks are out of the list. Then a chunk is always newer than its children, so the oldest is a leaf and
 * eviction needs no search. Knows nothing of nodes and tokens.
 */
import type { Chunk, ChunkId } from './chunk.js';

export class RecencyList {
  #oldest: Chunk | undefined = undefined;
  #newest: Chunk | undefined = undefined;

  get oldest(): Chunk | undefined {
    return this.#oldest;
  }

  /** Makes `chunk` the newest, whether or not it is in the list. O(1). */
  touch(chunk: Chunk): void {
    if (this.#newest === chunk) return;
    this.delete(chunk);
    chunk.older = this.#newest;
    if (this.#newest === undefined) this.#oldest = chunk;
    else this.#newest.newer = chunk;
    this.#newest = chunk;
  }

  /** Puts `chunk`, which is not in the list, just before `newer`, which is. O(1). */
  insertBelow(chunk: Chunk, newer: Chunk): void {
    chunk.newer = newer;
    chunk.older = newer.older;
    if (newer.older === undefined) this.#oldest = chunk;
    else newer.older.newer = chunk;
    newer.older = chunk;
  }

  /** Takes `chunk` out; nothing happens when it is not in the list. O(1). */
  delete(chunk: Chunk): void {
    const { older, newer } = chunk;
    if (older !== undefined) older.newer = newer;
    else if (this.#oldest === chunk) this.#oldest = newer;
    if (newer !== undefined) newer.older = older;
    else if (this.#newest === chunk) this.#newest = older;
    chunk.older = undefined;
    chunk.newer = undefined;
  }

  /** Ids from oldest to newest. The chunk just yielded may be removed while iterating. */
  *ids(): Generator<ChunkId, void, undefined> {
    for (let chunk = this.#oldest; chunk !== undefined; ) {
      const next: Chunk | undefined = chunk.newer;
      yield chunk.id;
      chunk = next;
    }
  }
}
