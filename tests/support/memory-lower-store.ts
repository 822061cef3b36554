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
  /** Keys in the order in which they were stored. */
  readonly stored: ChunkKey[] = [];
  readonly opened = Promise.resolve();
  #gate = Promise.resolve();

  /** Loads and writes wait until the returned function is called. */
  hold(): () => void {
    let release: (() => void) | undefined;
    this.#gate = new Promise((resolve) => {
      release = resolve;
    });
    return release!;
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
    return outcome === 'hit' ? { outcome, checksum: place!.checksum } : { outcome };
  }

  async store(
    chunk: ChunkIdentity,
    bytes: Uint8Array,
    { checksum, ...retention }: Retention & { readonly checksum: bigint },
  ): ReturnType<LowerStore['store']> {
    await this.#gate;
    if (this.refusesWrites || hash(bytes) !== checksum) return 'failed';
    const outcome = await this.write(chunk, bytes, retention);
    if (outcome === 'stored') this.stored.push(chunk.key);
    return outcome;
  }
}
