/** The system's copies of files in memory, which make a read from disk none. Linux, and root, only. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, writeFileSync } from 'node:fs';

const DROP_CACHES = '/proc/sys/vm/drop_caches';

/** Whether this process may drop the page cache. */
export function canDropPageCache(): boolean {
  try {
    accessSync(DROP_CACHES, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Has all files written, and forgets what it holds of those that no process has mapped. A virtual machine's host may
 * still know them.
 */
export function dropPageCache(): void {
  spawnSync('sync');
  writeFileSync(DROP_CACHES, '3');
}
