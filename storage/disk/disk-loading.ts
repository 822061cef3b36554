/**
 * The start of a disk tier: brings files and catalogue of a directory to agreement, and tells what chunks there are.
 *
 * 1. The files are listed, missing folders made, and files that were never finished deleted.
 * 2. Rows are read in the order they were written. One without a file, or that is not true (its key is not the one
 *    of its tokens, its numbers can't be), is dropped, so that no flipped bit of the catalogue lets a chunk be found
 *    under tokens that it does not hold. The others are told, each after its parent.
 * 3. A file without a row is taken back if its head is sound, own and true; else it is deleted. Its payload is
 *    verified when it is read.
 * 4. What has no parent is dropped: no prefix leads to it.
 */
import type { ChunkKey } from '../key.js';
import type { LoadedChunk, LoadReport } from './backend.js';
import type { CatalogueRow, CatalogueTable, NewRow } from './catalogue.js';
import type { ChunkFormat } from './chunk-format.js';
import { HEADER_BYTES, headBytesOf } from './chunk-head.js';
import type { ChunkPaths } from './chunk-paths.js';
import type { FileSystem } from './file-system.js';
import { ParentsFirst } from './parents-first.js';

const ROWS_A_PAGE = 1000;
const HEADS_READ_AT_ONCE = 16;
const PRIORITY_OF_ORPHANS = 50;
const NO_TOKENS = new Int32Array();
const NEITHER_PINNED_NOR_EXPIRING = { pinnedUntilMs: undefined, pinTtlMs: undefined, ttlMs: undefined };

type Mended = Omit<LoadReport, 'freeBytes' | 'isRebuilt'>;

/** A file without a row, as its head describes it, and the row to give it. */
interface Orphan {
  readonly chunk: LoadedChunk;
  readonly row: NewRow;
}

export class DiskLoading {
  readonly #fileSystem: FileSystem;
  readonly #paths: ChunkPaths;
  readonly #format: ChunkFormat;
  readonly #catalogue: CatalogueTable;
  readonly #order = new ParentsFirst<LoadedChunk>();
  /** Of which no row was seen yet. */
  #files = new Set<ChunkKey>();
  #droppedRows = 0;
  #orphansAdopted = 0;
  #orphansCollected = 0;

  constructor(options: {
    readonly fileSystem: FileSystem;
    readonly paths: ChunkPaths;
    readonly format: ChunkFormat;
    readonly catalogue: CatalogueTable;
  }) {
    this.#fileSystem = options.fileSystem;
    this.#paths = options.paths;
    this.#format = options.format;
    this.#catalogue = options.catalogue;
  }

  /** @throws DiskError, or the file system's error when a folder can't be listed */
  async run(onLoaded: (chunks: readonly LoadedChunk[]) => void): Promise<Mended> {
    const { keys, unfinished, missing } = await this.#paths.list(this.#fileSystem);
    await this.#paths.makeFolders(this.#fileSystem, missing);
    this.#files = keys;
    await this.#collect(unfinished);
    for (const { rows, malformed } of this.#catalogue.pages(ROWS_A_PAGE)) {
      this.#droppedRows += malformed;
      onLoaded(this.#loadRows(rows));
    }
    onLoaded(await this.#adoptOrphans());
    await this.#dropLeftOver();
    return {
      droppedRows: this.#droppedRows,
      orphansAdopted: this.#orphansAdopted,
      orphansCollected: this.#orphansCollected,
    };
  }

  #loadRows(rows: readonly CatalogueRow[]): LoadedChunk[] {
    const ready: LoadedChunk[] = [];
    const dropped: ChunkKey[] = [];
    for (const row of rows) {
      const chunk = this.#files.has(row.key) ? this.#chunkOf(row) : undefined;
      if (chunk === undefined) dropped.push(row.key);
      else {
        this.#files.delete(row.key);
        ready.push(...this.#order.pass(chunk));
      }
    }
    this.#dropRows(dropped);
    return ready;
  }

  /** Undefined for a row that is not true. */
  #chunkOf(row: CatalogueRow): LoadedChunk | undefined {
    const { key, parent, isOwn, isExact, fileBytes, createdAtMs, usage } = row;
    if (!isPlausible(row)) return undefined;
    const namespace = isOwn ? row.namespace : '';
    const tokens = isOwn ? this.#format.openTokens(key, row.tokens) : NO_TOKENS;
    if (tokens === undefined) return undefined;
    const chunk = { key, parent, namespace, tokens, isOwn, isExact, fileBytes, createdAtMs, usage };
    return !isOwn || this.#format.isTrue(chunk, row) ? chunk : undefined;
  }

  /** Takes files without rows back, those that can be, and deletes the others. */
  async #adoptOrphans(): Promise<LoadedChunk[]> {
    const keys = [...this.#files];
    const useless: ChunkKey[] = [];
    const orphans = new Map<ChunkKey, Orphan>();
    const ready: LoadedChunk[] = [];
    for (let start = 0; start < keys.length; start += HEADS_READ_AT_ONCE) {
      const some = keys.slice(start, start + HEADS_READ_AT_ONCE);
      const found = await Promise.all(some.map((key) => this.#readOrphan(key).catch(() => undefined)));
      for (const [i, orphan] of found.entries()) {
        if (orphan === undefined) useless.push(some[i]!);
        else {
          orphans.set(some[i]!, orphan);
          ready.push(...this.#order.pass(orphan.chunk));
        }
      }
    }
    const insert = ready.flatMap(({ key }) => orphans.get(key)?.row ?? []);
    if (insert.length > 0) this.#catalogue.change({ insert });
    this.#orphansAdopted += insert.length;
    await this.#collect(useless.map((key) => this.#paths.fileOf(key)));
    return ready;
  }

  /** Undefined when the file is not sound, own and true. */
  async #readOrphan(key: ChunkKey): Promise<Orphan | undefined> {
    const path = this.#paths.fileOf(key);
    const header = Buffer.alloc(HEADER_BYTES);
    await this.#fileSystem.read(path, [header]);
    const headBytes = headBytesOf(header);
    if (headBytes === undefined) return undefined;
    const bytes = Buffer.alloc(headBytes);
    await this.#fileSystem.read(path, [bytes]);
    const head = this.#format.readHead(bytes);
    if (head === undefined || head.key !== key || !this.#format.isOwn(head)) return undefined;
    if (head.fileBytes !== (await this.#fileSystem.sizeBytes(path))) return undefined;
    const meta = this.#format.readMeta(bytes);
    if (meta === undefined) return undefined;
    const { parent, fileBytes, codecId, isExact, createdAtMs } = head;
    const usage = {
      usedAtMs: createdAtMs,
      hits: 0,
      priority: PRIORITY_OF_ORPHANS,
      ...NEITHER_PINNED_NOR_EXPIRING,
    };
    const chunk = { key, parent, ...meta, isOwn: true, isExact, fileBytes, createdAtMs, usage };
    if (!this.#format.isTrue(chunk, head)) return undefined;
    return { chunk, row: { ...chunk, codecId, tokens: this.#format.sealTokens(chunk) } };
  }

  async #dropLeftOver(): Promise<void> {
    const keys = this.#order.leftOver().map((chunk) => chunk.key);
    this.#dropRows(keys.filter((key) => !this.#files.has(key)));
    await this.#collect(keys.map((key) => this.#paths.fileOf(key)));
  }

  #dropRows(keys: readonly ChunkKey[]): void {
    if (keys.length > 0) this.#catalogue.change({ remove: keys });
    this.#droppedRows += keys.length;
  }

  /** Deletes files; one that can't be is tried again at the next start. */
  async #collect(paths: readonly string[]): Promise<void> {
    await Promise.all(paths.map((path) => this.#fileSystem.unlink(path).catch(() => undefined)));
    this.#orphansCollected += paths.length;
  }
}

/** Whether the numbers can be what was written: SQLite does not notice a flipped bit. */
function isPlausible({ fileBytes, createdAtMs, usage }: CatalogueRow): boolean {
  const { usedAtMs, hits, pinnedUntilMs = 0, pinTtlMs = 1, ttlMs = 1, priority } = usage;
  return (
    Number.isSafeInteger(fileBytes) &&
    fileBytes > 0 &&
    Number.isSafeInteger(hits) &&
    hits >= 0 &&
    Number.isInteger(priority) &&
    priority >= 0 &&
    priority <= 100 &&
    [createdAtMs, usedAtMs, pinnedUntilMs].every((time) => !Number.isNaN(time)) &&
    pinTtlMs > 0 &&
    ttlMs > 0
  );
}
