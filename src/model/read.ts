/** Positional reads of model files that either return every byte or say that the file is damaged. */
import type { FileHandle } from 'node:fs/promises';
import { RadixkvError } from '../errors.js';

/** One read call transfers at most this much; the platform refuses 2 GiB and more at once. */
const READ_BYTES = 2 ** 30;

/**
 * The bytes `[start, start + bytes)` of an open file, in memory of their own.
 * @throws RadixkvError `corrupt_model` when the file ends before
 */
export async function readExactly(
  file: FileHandle,
  { start, bytes, path }: { readonly start: number; readonly bytes: number; readonly path: string },
): Promise<Uint8Array<ArrayBuffer>> {
  const buffer = new Uint8Array(bytes);
  for (let done = 0; done < bytes; ) {
    const { bytesRead } = await file.read(buffer, done, Math.min(bytes - done, READ_BYTES), start + done);
    if (bytesRead === 0) {
      throw new RadixkvError('corrupt_model', `${path} ends at byte ${start + done}: it is truncated`);
    }
    done += bytesRead;
  }
  return buffer;
}
