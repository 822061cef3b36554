/**
 * The owner of a disk directory, on the thread that it runs on: opens it, and puts all changes in one line.
 *
 * What waits while a group runs makes the next one: its removals (rows, then files, so that their room is free), its
 * uses, and its writes, which wait for the disk together: all files side by side, then one transaction. The next
 * group's files are written while this one is committed. A key that is written while its removal waits is so removed
 * first; the removal of a key whose write waits is not asked for (a chunk can't be removed before it is written).
 */
import type { ChunkKey } from '../key.js';
import type {
  DiskBackend,
  LoadedChunk,
  LoadReport,
  OpenOptions,
  ReadResult,
  WriteRequest,
  WriteResult,
} from './backend.js';
import { Catalogue, type CatalogueTable, type ChunkOwner, type UsageOf } from './catalogue.js';
import type { ChunkFormat } from './chunk-format.js';
import { ChunkPaths } from './chunk-paths.js';
import { DiskDirectory, type Staged } from './disk-directory.js';
import { DiskError } from './disk-error.js';
import { DiskLoading } from './disk-loading.js';
import { errnoOf, type FileSystem } from './file-system.js';

/** Writes that share one group commit at most. */
const GROUP_WRITES_MAX = 16;

export interface LocalBackendOptions extends OpenOptions {
  readonly fileSystem: FileSystem;
  readonly directory: string;
  readonly format: ChunkFormat;
  /** Default: in the directory. */
  readonly catalogue?: CatalogueSource;
}

/** Where the catalogue comes from, and goes when it is corrupt. */
export interface CatalogueSource {
  open(owner: ChunkOwner): CatalogueTable;
  setAside(): void;
}

interface WaitingWrite {
  readonly request: WriteRequest;
  readonly answer: (result: WriteResult) => void;
}

export class LocalBackend implements DiskBackend {
  readonly #directory: DiskDirectory;
  readonly #loading: DiskLoading;
  readonly #isRebuilt: boolean;
  readonly #onLost: (error: Error) => void;
  #state: 'open' | 'lost' | 'closed' = 'open';
  #removes: ChunkKey[] = [];
  #writes: WaitingWrite[] = [];
  #uses: UsageOf[] = [];
  /** Resolves when nothing waits any more; undefined while no change runs. */
  #changing: Promise<void> | undefined;
  /** The last group's: its files have their names. */
  #committing: Promise<void> | undefined;
  readonly #reading = new Set<Promise<ReadResult>>();

  private constructor(
    options: LocalBackendOptions,
    opened: { catalogue: CatalogueTable; isRebuilt: boolean },
  ) {
    const { fileSystem, format, directory, onTrouble } = options;
    const parts = { fileSystem, format, paths: new ChunkPaths(directory), catalogue: opened.catalogue };
    this.#directory = new DiskDirectory({ ...parts, onTrouble });
    this.#loading = new DiskLoading(parts);
    this.#isRebuilt = opened.isRebuilt;
    this.#onLost = options.onLost;
  }

  /** @throws DiskError `disk_in_use`, `disk_version`, `disk_unusable` */
  static async open(options: LocalBackendOptions): Promise<LocalBackend> {
    const { fileSystem, directory, format } = options;
    const paths = new ChunkPaths(directory);
    try {
      await paths.make(fileSystem);
    } catch (error) {
      throw new DiskError('disk_unusable', `${directory} cannot be used: ${String(error)}`, error);
    }
    const source = options.catalogue ?? sourceAt(paths.catalogue);
    if (!options.isCatalogueLost) {
      try {
        return new LocalBackend(options, { catalogue: source.open(format), isRebuilt: false });
      } catch (error) {
        if (!(error instanceof DiskError && error.code === 'catalogue_lost')) throw error;
      }
    }
    source.setAside();
    return new LocalBackend(options, { catalogue: source.open(format), isRebuilt: true });
  }

  async load(onLoaded: (chunks: readonly LoadedChunk[]) => void): Promise<LoadReport> {
    const mended = await this.#loading.run(onLoaded).catch((error: unknown) => {
      if (errnoOf(error) === undefined) throw error;
      throw new DiskError('disk_unusable', `the directory cannot be read: ${String(error)}`, error);
    });
    return { ...mended, isRebuilt: this.#isRebuilt, freeBytes: await this.#directory.freeBytes() };
  }

  async read(key: ChunkKey, into: Uint8Array): Promise<ReadResult> {
    if (this.#state !== 'open') return { outcome: 'unavailable' };
    const reading = this.#directory.read(key, into).catch((error: unknown): ReadResult => {
      this.#note(error);
      return { outcome: this.#state === 'lost' ? 'unavailable' : 'failed' };
    });
    this.#reading.add(reading);
    const result = await reading;
    this.#reading.delete(reading);
    return result;
  }

  async write(request: WriteRequest): Promise<WriteResult> {
    if (this.#state !== 'open') return { outcome: 'failed' };
    return new Promise((answer) => {
      this.#writes.push({ request, answer });
      this.#startChanging();
    });
  }

  remove(keys: readonly ChunkKey[]): void {
    this.#removes.push(...keys);
    this.#startChanging();
  }

  use(uses: readonly UsageOf[]): void {
    this.#uses.push(...uses);
    this.#startChanging();
  }

  freeBytes(): Promise<number | undefined> {
    return this.#directory.freeBytes();
  }

  async close(): Promise<void> {
    if (this.#state === 'open') this.#state = 'closed';
    await this.#changing;
    await Promise.all(this.#reading);
    this.#directory.close();
  }

  #startChanging(): void {
    this.#changing ??= this.#changeAll();
  }

  async #changeAll(): Promise<void> {
    await Promise.resolve(); // what is asked for in the same turn shares a group
    while (this.#removes.length + this.#writes.length + this.#uses.length > 0) {
      await this.#changeGroup();
      if (this.#writes.length === 0) await this.#committing;
    }
    this.#changing = undefined;
  }

  async #changeGroup(): Promise<void> {
    const removes = this.#removes.splice(0);
    const writes = this.#writes.splice(0, GROUP_WRITES_MAX);
    const uses = this.#uses.splice(0);
    try {
      if (removes.length > 0) await this.#directory.remove(removes);
      if (uses.length > 0) this.#directory.use(uses);
    } catch (error) {
      this.#note(error);
    }
    const staged = await this.#directory.stage(writes.map((one) => one.request));
    await this.#committing;
    this.#committing = this.#commit(writes, staged);
  }

  async #commit(writes: readonly WaitingWrite[], staged: readonly Staged[]): Promise<void> {
    try {
      const results = await this.#directory.commit(staged);
      for (const [i, result] of results.entries()) writes[i]!.answer(result);
    } catch (error) {
      this.#note(error);
      const isFull = error instanceof DiskError && error.code === 'disk_full';
      for (const { answer } of writes) answer({ outcome: isFull ? 'noSpace' : 'failed' });
    }
  }

  /** Takes a catalogue's error for what it is; any other is a mistake, and thrown on. */
  #note(error: unknown): void {
    if (!(error instanceof DiskError)) throw error;
    if (error.code !== 'catalogue_lost' || this.#state !== 'open') return;
    this.#state = 'lost';
    this.#onLost(error);
  }
}

function sourceAt(path: string): CatalogueSource {
  return { open: (owner) => Catalogue.open(path, owner), setAside: () => Catalogue.setAside(path) };
}
