/** What a directory takes on its volume, while others write in it. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

export interface DirectorySize {
  readonly files: number;
  /** Blocks of the file system that files and folders take, as `du` counts them. */
  readonly allocatedBytes: number;
}

/**
 * Counts what was there when everything was listed and still is when it is looked at: no file is counted beside the
 * one that took its room. An absent directory is empty.
 */
export async function directorySize(directory: string): Promise<DirectorySize> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => []);
  const paths = [directory, ...entries.map(({ parentPath, name }) => join(parentPath, name))];
  const found = await Promise.all(paths.map((path) => stat(path).catch(() => undefined)));
  const present = found.filter((file) => file !== undefined);
  return {
    files: present.filter((file) => file.isFile()).length,
    allocatedBytes: present.reduce((sum, { blocks }) => sum + blocks * 512, 0),
  };
}
