/**
 * A file system that fails at the operation that a test chose, and a catalogue that does: both count their operations
 * on one counter, so that a scenario can be crashed after each of them.
 */
import type { CatalogueTable } from '../../../storage/disk/catalogue.js';
import { DiskError } from '../../../storage/disk/disk-error.js';
import type { FileSystem, NewFile } from '../../../storage/disk/file-system.js';
import { systemError } from './memory-file-system.js';

/**
 * A code is the error of an operation without effect. `short` and `torn` are of `write`, which writes half and says so,
 * or fails; `broken` is of `change`: the catalogue is corrupt.
 */
export type Fault = 'ENOSPC' | 'EIO' | 'EROFS' | 'ENOENT' | 'short' | 'torn' | 'broken';

export type OperationName = keyof FileSystem | keyof NewFile | 'change';

export interface Operation {
  readonly name: OperationName;
  /** How many there were before it. */
  readonly index: number;
}

/** Decides about each operation. */
export type FaultPlan = (operation: Operation) => Fault | undefined;

export class Faults {
  /** Operations begun so far. */
  operations = 0;
  /** Faults that came to pass. */
  injected = 0;
  plan: FaultPlan = () => undefined;
  /** From this operation on nothing takes effect any more. */
  crashAt = Number.POSITIVE_INFINITY;

  get hasCrashed(): boolean {
    return this.operations > this.crashAt;
  }

  /** The fault of the next operation; throws when the process is dead by then. */
  next(name: OperationName): Fault | undefined {
    const index = this.operations++;
    if (index >= this.crashAt) throw systemError('EIO');
    const fault = this.plan({ name, index });
    if (fault !== undefined) this.injected++;
    if (fault?.startsWith('E')) throw systemError(fault);
    return fault;
  }
}

export function faultyFileSystem(inner: FileSystem, faults: Faults): FileSystem {
  const guarded = async <T>(name: keyof FileSystem, run: () => Promise<T>): Promise<T> => {
    faults.next(name);
    return run();
  };
  return {
    makeDirectory: (path) => guarded('makeDirectory', () => inner.makeDirectory(path)),
    list: (path) => guarded('list', () => inner.list(path)),
    create: (path) => guarded('create', async () => faultyFile(await inner.create(path), faults)),
    read: (path, parts) => guarded('read', () => inner.read(path, parts)),
    sizeBytes: (path) => guarded('sizeBytes', () => inner.sizeBytes(path)),
    rename: (from, to) => guarded('rename', () => inner.rename(from, to)),
    unlink: (path) => guarded('unlink', () => inner.unlink(path)),
    syncDirectory: (path) => guarded('syncDirectory', () => inner.syncDirectory(path)),
    freeBytes: (path) => guarded('freeBytes', () => inner.freeBytes(path)),
  };
}

function faultyFile(inner: NewFile, faults: Faults): NewFile {
  return {
    async write(parts) {
      const fault = faults.next('write');
      if (fault === undefined) return inner.write(parts);
      const whole = Buffer.concat(parts);
      const written = await inner.write([whole.subarray(0, whole.byteLength >> 1)]);
      if (fault === 'torn') throw systemError('EIO');
      return written;
    },
    async sync() {
      faults.next('sync');
      await inner.sync();
    },
    async close() {
      faults.next('close');
      await inner.close();
    },
  };
}

export function faultyCatalogue(inner: CatalogueTable, faults: Faults): CatalogueTable {
  const guarded = <T>(run: () => T): T => {
    if (faults.hasCrashed) throw new DiskError('disk_unusable', 'the process is dead');
    return run();
  };
  return {
    find: (key) => guarded(() => inner.find(key)),
    pages: (rowsMax) => guarded(() => inner.pages(rowsMax)),
    change(changes) {
      let fault: Fault | undefined;
      try {
        fault = faults.next('change');
      } catch (error) {
        throw new DiskError('disk_unusable', 'injected', error);
      }
      if (fault === 'broken') throw new DiskError('catalogue_lost', 'injected');
      inner.change(changes);
    },
    close: () => {
      if (!faults.hasCrashed) inner.close();
    },
  };
}
