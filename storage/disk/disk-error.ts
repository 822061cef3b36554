/** What keeps a disk tier from opening, or ends its work: typed, for the user to see. */

/**
 * - `disk_in_use` another process has the directory open
 * - `disk_version` the directory was written by a newer release
 * - `disk_unusable` the directory cannot be made, listed or written
 * - `disk_full` the volume has no room for the catalogue
 * - `disk_thread_died` the thread that had the directory ended: open again
 * - `catalogue_lost` the catalogue broke while in use: open again, and it is rebuilt from the files
 */
export type DiskErrorCode =
  | 'disk_in_use'
  | 'disk_version'
  | 'disk_unusable'
  | 'disk_full'
  | 'disk_thread_died'
  | 'catalogue_lost';

export class DiskError extends Error {
  readonly code: DiskErrorCode;

  constructor(code: DiskErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'DiskError';
    this.code = code;
  }
}
