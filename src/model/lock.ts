/**
 * A lock between processes that share a directory: one file, created exclusively, removed when done.
 *
 * The holder touches the file every few seconds. It is stale when its process is gone (same host) or when it was not
 * touched for a minute (another host or container), and is then taken over. Two takers of one stale lock can, in a
 * window of microseconds, both succeed: use it to save work, not for correctness.
 */
import { mkdir, open, readFile, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { z } from 'zod';
import { errnoOf } from '../errno.js';
import type { Clock } from './clock.js';

const HOLDER = z.object({ pid: z.number(), host: z.string() });
const TOUCH_EVERY_MS = 5000;
const STALE_AFTER_MS = 60_000;
const POLL_EVERY_MS = 500;

/**
 * Runs `work` with the lock held; waits for it as long as its holder lives.
 *
 * @param options.onWait Called once, when another process holds the lock.
 */
export async function withLock<T>(
  path: string,
  options: { readonly clock: Clock; readonly onWait?: (() => void) | undefined },
  work: () => Promise<T>,
): Promise<T> {
  await mkdir(dirname(path), { recursive: true });
  let waited = false;
  while (!(await tryAcquire(path, options.clock))) {
    if (await isStale(path, options.clock)) {
      await rm(path, { force: true });
      continue;
    }
    if (!waited) options.onWait?.();
    waited = true;
    await options.clock.sleep(POLL_EVERY_MS);
  }
  const touch = setInterval(() => {
    const seconds = options.clock.now() / 1000;
    utimes(path, seconds, seconds).catch(() => undefined); // worst case: seen as stale, see above
  }, TOUCH_EVERY_MS);
  touch.unref();
  try {
    return await work();
  } finally {
    clearInterval(touch);
    await rm(path, { force: true });
  }
}

async function tryAcquire(path: string, clock: Clock): Promise<boolean> {
  try {
    const file = await open(path, 'wx');
    await file.writeFile(JSON.stringify({ pid: process.pid, host: hostname() }));
    await file.utimes(clock.now() / 1000, clock.now() / 1000);
    await file.close();
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw error;
  }
}

async function isStale(path: string, clock: Clock): Promise<boolean> {
  try {
    const { mtimeMs } = await stat(path);
    if (clock.now() - mtimeMs > STALE_AFTER_MS) return true;
    const holder = HOLDER.parse(JSON.parse(await readFile(path, 'utf8')));
    return holder.host === hostname() && !isAlive(holder.pid);
  } catch {
    return false; // just released, or not written yet: look again
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}
