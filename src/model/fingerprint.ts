/**
 * A content fingerprint of a model's files, for the manifest: the same bytes give the same fingerprint wherever they
 * are and whenever they were written.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { sourceFiles } from './source-files.js';

const READ_BYTES = 1 << 20;

export type FingerprintProgress = (progress: {
  readonly doneBytes: number;
  readonly totalBytes: number;
}) => void;

/**
 * SHA-256, in hex, of a file's bytes; of a directory, of its model files by name: each as its name, a zero byte, its
 * length as text, a zero byte, and its bytes. Streams and calls `onProgress` after every
 * megabyte.
 * @throws as `sourceFiles` does, and the file system's error when a file can't be read
 */
export async function fingerprintSource(path: string, onProgress?: FingerprintProgress): Promise<string> {
  const hash = createHash('sha256');
  const { isDirectory, files } = await sourceFiles(path);
  const totalBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let doneBytes = 0;
  for (const file of files) {
    if (isDirectory) hash.update(`${file.name}\0${file.bytes}\0`);
    for await (const bytes of createReadStream(file.path, {
      highWaterMark: READ_BYTES,
    }) as AsyncIterable<Buffer>) {
      hash.update(bytes);
      doneBytes += bytes.length;
      onProgress?.({ doneBytes, totalBytes });
    }
  }
  return hash.digest('hex');
}
