/**
 * The chunks that a directory turns out to have, taken into a tier: told as they come, so that their owner's work and
 * the disk's go side by side; then entered in the order of their use, in steps that leave the thread to others.
 *
 * What the tier had before and the directory has not is gone. What left while nobody had the directory stays away.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ChunkKey } from '../key.js';
import type { Newcomer } from '../resident.js';
import type { LoadedResident, Residents } from '../residents.js';
import type { ChunkIdentity } from '../store.js';
import type { LoadedChunk } from './backend.js';
import { chargedBytes } from './disk-budget.js';

/** What the tier knows of a chunk. */
export interface DiskChunk {
  readonly identity: ChunkIdentity;
  /** False: of another model, layout or encryption key. */
  readonly isOwn: boolean;
  isExact: boolean;
}

/** Whose chunks of other models are, whoever had them computed. */
export const FOREIGN_OWNER = 'foreign';

export class DiskTakeIn {
  readonly #residents: Residents<DiskChunk>;
  readonly #leftMeanwhile: Set<ChunkKey>;
  readonly #onLoaded: (chunks: readonly ChunkIdentity[]) => void;
  /** The tier is as good as new: everything is fresh. */
  readonly #isFirst: boolean;
  /** What the directory has, unless everything is fresh. */
  readonly #there = new Set<ChunkKey>();
  readonly #fresh: LoadedResident<DiskChunk>[] = [];

  constructor(options: {
    readonly residents: Residents<DiskChunk>;
    /** Also gets what has no parent here any more. */
    readonly leftMeanwhile: Set<ChunkKey>;
    readonly onLoaded: (chunks: readonly ChunkIdentity[]) => void;
  }) {
    this.#residents = options.residents;
    this.#leftMeanwhile = options.leftMeanwhile;
    this.#onLoaded = options.onLoaded;
    this.#isFirst = options.residents.count === 0 && options.leftMeanwhile.size === 0;
  }

  /** Tells own chunks that the tier does not have; the fresh ones are given back. They come after their parents. */
  add(found: readonly LoadedChunk[]): Newcomer<DiskChunk>[] {
    const fresh = found.filter((chunk) => this.#isFresh(chunk)).map(residentOf);
    this.#fresh.push(...fresh);
    const own = fresh.flatMap(({ chunk }) => (chunk.data.isOwn ? chunk.data.identity : []));
    if (own.length > 0) this.#onLoaded(own);
    return fresh.map(({ chunk }) => chunk);
  }

  #isFresh({ key, parent }: LoadedChunk): boolean {
    if (this.#isFirst) return true;
    if (this.#residents.isTaken(key)) this.#there.add(key);
    else if (parent !== undefined && !this.#there.has(parent) && this.#residents.get(parent) === undefined)
      this.#leftMeanwhile.add(key);
    else if (!this.#leftMeanwhile.has(key)) {
      this.#there.add(key);
      return true;
    }
    return false;
  }

  /** Enters what was added, all of it: it was told. `isWhole`: there is nothing more in the directory. */
  async finish({ isWhole }: { readonly isWhole: boolean }): Promise<void> {
    const before = Array.from(this.#residents.all());
    for (const _ of this.#residents.loadInSteps(this.#fresh.splice(0))) await nextTurn();
    if (!isWhole) return;
    for (const { key } of before) if (!this.#there.has(key)) this.#residents.remove(key, 'failed');
  }
}

function residentOf(chunk: LoadedChunk): LoadedResident<DiskChunk> {
  const { key, parent, namespace, tokens, isOwn, isExact, createdAtMs, usage } = chunk;
  const { ttlMs, priority } = usage;
  const data: DiskChunk = { identity: { key, parent, namespace, tokens }, isOwn, isExact };
  const retention = { priority, ...(ttlMs !== undefined && { ttlMs }) };
  return {
    chunk: {
      key,
      parent,
      namespace: isOwn ? namespace : FOREIGN_OWNER,
      bytes: chargedBytes(chunk.fileBytes),
      data,
      retention,
    },
    history: { createdAtMs, ...usage },
  };
}
