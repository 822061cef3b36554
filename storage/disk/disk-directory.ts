/**
 * A directory of chunk files and its catalogue, and the order in which they change so that a crash at any point
 * leaves nothing that could be believed wrongly:
 *
 * - S4 to write: bytes → fsync → rename → fsync of the folder → row. To remove: row → unlink.
 * - S5 what a crash leaves is a row without a file (dropped at the next start), a file without a row (taken back, if
 *   it is sound and its parent is there) or a file without its name (deleted).
 *
 * One change at a time (see local-backend.ts); reads run beside it and beside one another, because a file never
 * changes while it has its name. Trusts no byte that it did not verify. Knows no threads, no budget, no policy.
 */
import type { ChunkKey } from '../key.js';
import type { ReadResult, WriteRequest, WriteResult } from './backend.js';
import type { CatalogueTable, NewRow, UsageOf } from './catalogue.js';
import type { ChunkFile, ChunkFormat } from './chunk-format.js';
import type { ChunkPaths } from './chunk-paths.js';
import { DiskError } from './disk-error.js';
import { errnoOf, type FileSystem } from './file-system.js';

/** A request whose file has its name, or what kept it from that. */
export type Staged = { readonly request: WriteRequest } & (
  | { readonly file: ChunkFile }
  | { readonly result: Exclude<WriteResult, { outcome: 'stored' }> }
);

export class DiskDirectory {
  readonly #fileSystem: FileSystem;
  readonly #paths: ChunkPaths;
  readonly #format: ChunkFormat;
  readonly #catalogue: CatalogueTable;
  /** Something was refused that no caller waits for. */
  readonly #onTrouble: () => void;

  constructor(options: {
    readonly fileSystem: FileSystem;
    readonly paths: ChunkPaths;
    readonly format: ChunkFormat;
    readonly catalogue: CatalogueTable;
    readonly onTrouble: () => void;
  }) {
    this.#fileSystem = options.fileSystem;
    this.#paths = options.paths;
    this.#format = options.format;
    this.#catalogue = options.catalogue;
    this.#onTrouble = options.onTrouble;
  }

  /** Reads and verifies a chunk. @throws DiskError `catalogue_lost` */
  async read(key: ChunkKey, into: Uint8Array): Promise<ReadResult> {
    const stored = this.#catalogue.find(key);
    if (stored === undefined) return { outcome: 'missing' };
    const buffers = this.#format.buffersFor(stored, into);
    if (buffers === undefined) return { outcome: 'corrupt' };
    const { head, payload } = buffers;
    const beyond = new Uint8Array(1); // stays unread, unless the file is longer than it should be
    try {
      const bytes = await this.#fileSystem.read(this.#paths.fileOf(key), [head, payload, beyond]);
      if (bytes !== stored.fileBytes) return { outcome: 'corrupt' };
    } catch (error) {
      return { outcome: errnoOf(error) === 'ENOENT' ? 'missing' : 'failed' };
    }
    const checksum = this.#format.decode(stored, { head, payload }, into);
    return checksum === undefined ? { outcome: 'corrupt' } : { outcome: 'hit', checksum };
  }

  /** Gives chunks their files, side by side; then `commit` them. */
  stage(group: readonly WriteRequest[]): Promise<Staged[]> {
    return Promise.all(group.map((request) => this.#writeFile(request)));
  }

  /**
   * Makes staged chunks durable and findable, all in one transaction. The results are in their order.
   * @throws DiskError when the catalogue takes no changes; then there is nothing left of them
   */
  async commit(staged: readonly Staged[]): Promise<WriteResult[]> {
    const named = await this.#syncFolders(staged);
    const rows = named.flatMap((one) => ('file' in one ? [this.#rowOf(one.request, one.file)] : []));
    try {
      if (rows.length > 0) this.#catalogue.change({ insert: rows });
    } catch (error) {
      await this.#unlink(rows.map((row) => row.key));
      throw error;
    }
    return named.map((one) => ('file' in one ? storedAs(one.file) : one.result));
  }

  /**
   * Rows first; but if the catalogue takes no changes the files go all the same, since a full volume gets no room
   * otherwise: such a row is dropped at the next start. A file that can't be deleted is collected then.
   * @throws DiskError `catalogue_lost`
   */
  async remove(keys: readonly ChunkKey[]): Promise<void> {
    let failure: unknown;
    try {
      this.#catalogue.change({ remove: keys });
    } catch (error) {
      failure = error;
    }
    await this.#unlink(keys);
    if (failure !== undefined) this.#bear(failure);
  }

  /** @throws DiskError `catalogue_lost` */
  use(uses: readonly UsageOf[]): void {
    try {
      this.#catalogue.change({ use: uses });
    } catch (error) {
      this.#bear(error);
    }
  }

  /** Of the volume; undefined when it can't be told. */
  async freeBytes(): Promise<number | undefined> {
    return this.#fileSystem.freeBytes(this.#paths.directory).catch(() => {
      this.#onTrouble();
      return undefined;
    });
  }

  close(): void {
    this.#catalogue.close();
  }

  async #writeFile(request: WriteRequest): Promise<Staged> {
    const { key } = request.draft;
    const file = this.#format.encode(request.draft, request.bytes);
    if (file === undefined) return { request, result: { outcome: 'corrupt' } };
    const temporary = this.#paths.temporaryOf(key);
    try {
      await this.#writeDurably(temporary, file);
      await this.#fileSystem.rename(temporary, this.#paths.fileOf(key));
      return { request, file };
    } catch (error) {
      await this.#discard(temporary);
      return { request, result: failureOf(error) };
    }
  }

  async #writeDurably(path: string, file: ChunkFile): Promise<void> {
    const opened = await this.#fileSystem.create(path);
    try {
      const bytes = await opened.write(file.parts);
      if (bytes !== file.fileBytes) throw new Error(`only ${bytes} of ${file.fileBytes} bytes were written`);
      await opened.sync();
    } finally {
      await opened.close();
    }
  }

  /** Makes the names durable; a file whose folder can't be is given up. */
  async #syncFolders(staged: readonly Staged[]): Promise<Staged[]> {
    const keys = staged.flatMap((one) => ('file' in one ? [one.request.draft.key] : []));
    const folders = [...new Set(keys.map((key) => this.#paths.folderOf(key)))];
    const failures = new Map<string, unknown>();
    await Promise.all(
      folders.map((folder) =>
        this.#fileSystem.syncDirectory(folder).catch((error: unknown) => failures.set(folder, error)),
      ),
    );
    const isGivenUp = (key: ChunkKey): boolean => failures.has(this.#paths.folderOf(key));
    await this.#unlink(keys.filter(isGivenUp));
    return staged.map((one) => {
      const { key } = one.request.draft;
      if (!('file' in one) || !isGivenUp(key)) return one;
      return { request: one.request, result: failureOf(failures.get(this.#paths.folderOf(key))) };
    });
  }

  #rowOf({ draft, usage }: WriteRequest, file: ChunkFile): NewRow {
    const { key, parent, namespace, createdAtMs } = draft;
    const { fileBytes, codecId, isExact } = file;
    const tokens = this.#format.sealTokens(draft);
    return { key, parent, namespace, tokens, fileBytes, codecId, isExact, createdAtMs, usage };
  }

  async #unlink(keys: readonly ChunkKey[]): Promise<void> {
    await Promise.all(keys.map((key) => this.#discard(this.#paths.fileOf(key))));
  }

  /** A file that can't be deleted is collected at the next start. */
  async #discard(path: string): Promise<void> {
    try {
      await this.#fileSystem.unlink(path);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') this.#onTrouble();
    }
  }

  /** What the next start puts right is trouble; a catalogue that broke is more. */
  #bear(error: unknown): void {
    if (!(error instanceof DiskError) || error.code === 'catalogue_lost') throw error;
    this.#onTrouble();
  }
}

function storedAs({ fileBytes, isExact }: ChunkFile): WriteResult {
  return { outcome: 'stored', fileBytes, isExact };
}

function failureOf(error: unknown): Exclude<WriteResult, { outcome: 'stored' }> {
  return { outcome: ['ENOSPC', 'EDQUOT'].includes(errnoOf(error) ?? '') ? 'noSpace' : 'failed' };
}
