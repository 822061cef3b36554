/**
 * Where the files of a directory are: `chunks/<first two hex digits>/<64 hex digits>.kv`, a file being written beside
 * it as `.tmp`, and the catalogue. All 256 folders are there from the start, so that no write makes one.
 */
import { join } from 'node:path';
import { type ChunkKey, isChunkKey } from '../key.js';
import type { FileSystem } from './file-system.js';

const FOLDERS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

const FINISHED_LENGTH = 'xx/'.length + 64 + '.kv'.length;
const UNFINISHED_LENGTH = FINISHED_LENGTH + 1;

/** What a directory has. Files whose names are not ours are not looked at. */
export interface Listing {
  /** Of chunks that there is a file of. */
  readonly keys: Set<ChunkKey>;
  /** Paths of files that were never finished. */
  readonly unfinished: string[];
  /** Folders to make. */
  readonly missing: ReadonlySet<string>;
}

export class ChunkPaths {
  readonly directory: string;
  readonly catalogue: string;
  readonly #chunks: string;

  constructor(directory: string) {
    this.directory = directory;
    this.catalogue = join(directory, 'catalogue.sqlite');
    this.#chunks = join(directory, 'chunks');
  }

  folderOf(key: ChunkKey): string {
    return join(this.#chunks, key.slice(0, 2));
  }

  fileOf(key: ChunkKey): string {
    return join(this.folderOf(key), `${key}.kv`);
  }

  temporaryOf(key: ChunkKey): string {
    return join(this.folderOf(key), `${key}.tmp`);
  }

  /** Makes the directory, which a catalogue needs. */
  async make(fileSystem: FileSystem): Promise<void> {
    await fileSystem.makeDirectory(this.#chunks);
  }

  async list(fileSystem: FileSystem): Promise<Listing> {
    const keys = new Set<ChunkKey>();
    const unfinished: string[] = [];
    const missing = new Set(FOLDERS);
    for (const path of await fileSystem.list(this.#chunks)) {
      missing.delete(path);
      // `<folder>/<key>.kv` or `.tmp`
      const key = path.slice(3, 3 + 64);
      const isFinished = path.endsWith('.kv');
      if (!isChunkKey(key) || !key.startsWith(path.slice(0, 2))) continue;
      if (path.length !== (isFinished ? FINISHED_LENGTH : UNFINISHED_LENGTH)) continue;
      if (isFinished) keys.add(key);
      else if (path.endsWith('.tmp')) unfinished.push(join(this.#chunks, path));
    }
    return { keys, unfinished, missing };
  }

  async makeFolders(fileSystem: FileSystem, missing: ReadonlySet<string>): Promise<void> {
    if (missing.size === 0) return;
    await Promise.all(Array.from(missing, (folder) => fileSystem.makeDirectory(join(this.#chunks, folder))));
    await fileSystem.syncDirectory(this.#chunks);
    await fileSystem.syncDirectory(this.directory);
  }
}
