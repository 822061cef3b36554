/** Plain sequential files, to compare with: one file, large buffers, as `dd conv=fdatasync` writes it. */
import { randomBytes } from 'node:crypto';
import { open } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';

const BUFFER_BYTES = 4 * 1024 ** 2;

/** Writes a new file of `bytes` and waits until the volume has it. Milliseconds. */
export async function writeSequentially(path: string, bytes: number): Promise<number> {
  const buffer = randomBytes(BUFFER_BYTES);
  const start = performance.now();
  const file = await open(path, 'wx');
  for (let written = 0; written < bytes; ) {
    const length = Math.min(BUFFER_BYTES, bytes - written);
    const { bytesWritten } = await file.write(buffer, 0, length);
    written += bytesWritten;
  }
  await file.datasync();
  await file.close();
  return performance.now() - start;
}

/** Reads a file to its end. Milliseconds. */
export async function readSequentially(path: string): Promise<number> {
  const buffer = Buffer.alloc(BUFFER_BYTES);
  const start = performance.now();
  const file = await open(path, 'r');
  while ((await file.read(buffer, 0, BUFFER_BYTES)).bytesRead > 0);
  await file.close();
  return performance.now() - start;
}
