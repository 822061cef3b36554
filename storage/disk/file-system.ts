/**
 * The file operations of the disk tier as a port, so that faults can be injected, and the real ones.
 *
 * What is written is durable only after `sync`, and where it is (created, renamed, unlinked) only after
 * `syncDirectory`. Failures are thrown as Node's system errors. Paths are absolute.
 */
import { mkdir, open, readdir, rename, stat, statfs, unlink } from 'node:fs/promises';

/** A file being written. */
export interface NewFile {
  /** Appends all parts; the number of bytes written, which is less only when something is wrong. */
  write(parts: readonly Uint8Array[]): Promise<number>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface FileSystem {
  /** With its parents; no effect when it is there. */
  makeDirectory(path: string): Promise<void>;
  /** Paths, relative to a directory, of what is in it and in the folders in it. */
  list(path: string): Promise<string[]>;
  /** Empties a file that is there. */
  create(path: string): Promise<NewFile>;
  /** Fills the parts, one after another, from the start of the file; the number of bytes read. */
  read(path: string, parts: readonly Uint8Array[]): Promise<number>;
  sizeBytes(path: string): Promise<number>;
  /** Replaces what is at `to`. */
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  syncDirectory(path: string): Promise<void>;
  /** What an unprivileged user may still write to the volume of `path`. */
  freeBytes(path: string): Promise<number>;
}

/** The code of a system error, such as `ENOENT`. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

export const nodeFileSystem: FileSystem = {
  async makeDirectory(path) {
    await mkdir(path, { recursive: true, mode: 0o700 });
  },

  async list(path) {
    const entries = await readdir(path, { withFileTypes: true });
    // Folders side by side: `recursive` would take eight times as long.
    const inside = await Promise.all(
      entries.map(async (entry) => {
        const names = entry.isDirectory() ? await readdir(`${path}/${entry.name}`) : [];
        return names.map((name) => `${entry.name}/${name}`);
      }),
    );
    return [...entries.map((entry) => entry.name), ...inside.flat()];
  },

  async create(path) {
    const file = await open(path, 'w', 0o600);
    return {
      write: async (parts) => (await file.writev([...parts])).bytesWritten,
      sync: () => file.datasync(), // with what is needed to read the data back, such as the length
      close: () => file.close(),
    };
  },

  async read(path, parts) {
    const file = await open(path, 'r');
    try {
      return (await file.readv([...parts], 0)).bytesRead;
    } finally {
      await file.close();
    }
  },

  sizeBytes: async (path) => (await stat(path)).size,

  rename,

  unlink,

  async syncDirectory(path) {
    const directory = await open(path, 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  },

  async freeBytes(path) {
    const volume = await statfs(path);
    return volume.bavail * volume.bsize;
  },
};
