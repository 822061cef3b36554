/** A lower store that keeps its chunks in memory, answers when told to, and fails on demand. */
import {
  type ChunkIdentity,
  type ChunkKey,
  createChecksum,
  HostStore,
  type LoadOutcome,
  type LowerStore,
  type Retention,
} from '#storage';

const hash = await createChecksum();

export class MemoryLowerStore extends HostStore implements LowerStore {
  /** What loads answer instead of the truth. */
  nextLoad: LoadOutcome['outcome'] | undefined;
  refusesWrites = false;
  /** Whether what is written from now on goes through a lossy codec. */
  isLossy = false;
  /** It was lost, and has not opened again. */
  isLost = false;
  /** Keys in the order in which they were stored. */
  readonly stored: ChunkKey[] = [];
  readonly opened = Promise.resolve();
  readonly #lossy = new Set<ChunkKey>();
  #gate = Promise.resolve();

  /** Loads and writes wait until the returned function is called. */
  hold(): () => void {
    let release: (() => void) | undefined;
    this.#gate = new Promise((resolve) => {
      release = resolve;
    });
    return release!;
  }

  override has(key: ChunkKey): boolean {
    return !this.isLost && super.has(key);
  }

  override lease(key: ChunkKey): boolean {
    return !this.isLost && super.lease(key);
  }

  keeps(key: ChunkKey): boolean {
    return super.has(key);
  }

  override exactOf(key: ChunkKey): boolean | undefined {
    return this.has(key) ? !this.#lossy.has(key) : undefined;
  }

  maintain(): void {
    this.expire();
  }

  async load(key: ChunkKey, into: Uint8Array): Promise<LoadOutcome> {
    await this.#gate;
    if (this.nextLoad !== undefined && this.nextLoad !== 'hit') {
      if (this.nextLoad !== 'unavailable' && this.has(key)) this.remove(key, 'failed');
      return { outcome: this.nextLoad };
    }
    const place = this.lookup(key);
    const outcome = await this.read(key, into);
    if (outcome !== 'hit') return { outcome };
    return { outcome, checksum: place!.checksum, isExact: !this.#lossy.has(key) };
  }

  async store(
    chunk: ChunkIdentity,
    bytes: Uint8Array,
    { checksum, isExact, ...retention }: Retention & { readonly checksum: bigint; readonly isExact: boolean },
  ): ReturnType<LowerStore['store']> {
    await this.#gate;
    if (this.refusesWrites || hash(bytes) !== checksum) return 'failed';
    const outcome = await this.write(chunk, bytes, retention);
    if (outcome !== 'stored') return outcome;
    this.stored.push(chunk.key);
    if (this.isLossy || !isExact) this.#lossy.add(chunk.key);
    else this.#lossy.delete(chunk.key);
    return outcome;
  }
}
