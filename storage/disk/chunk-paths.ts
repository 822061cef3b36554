/**
 * Where the files of a directory are: `chunks/<first two hex digits>/<64 hex digits>.kv`, a file being written beside
 * it as `.tmp`, and the catalogue. All 256 folders are there from the start, so that no write makes one.
 */
import { join } from 'node:path';
import { type ChunkKey, isChunkKey } from '../key.js';
import type { FileSystem } from './file-system.js';

const FOLDERS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

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

  /** Makes the folders that are missing. */
  async make(fileSystem: FileSystem): Promise<void> {
    await fileSystem.makeDirectory(this.#chunks);
    const present = new Set(await fileSystem.list(this.#chunks));
    const missing = FOLDERS.filter((folder) => !present.has(folder));
    if (missing.length === 0) return;
    await Promise.all(missing.map((folder) => fileSystem.makeDirectory(join(this.#chunks, folder))));
    await fileSystem.syncDirectory(this.#chunks);
    await fileSystem.syncDirectory(this.directory);
  }

  /** The chunks there is a file of, and the paths of files that were never finished. Other files are not ours. */
  async list(
    fileSystem: FileSystem,
  ): Promise<{ readonly keys: Set<ChunkKey>; readonly unfinished: string[] }> {
    const keys = new Set<ChunkKey>();
    const unfinished: string[] = [];
    const folders = await Promise.all(
      FOLDERS.map(async (folder) => ({ folder, names: await fileSystem.list(join(this.#chunks, folder)) })),
    );
    for (const { folder, names } of folders) {
      for (const name of names) {
        const key = name.slice(0, 64);
        if (!isChunkKey(key) || !key.startsWith(folder)) continue;
        if (name === `${key}.kv`) keys.add(key);
        else if (name === `${key}.tmp`) unfinished.push(join(this.#chunks, folder, name));
      }
    }
    return { keys, unfinished };
  }
}
