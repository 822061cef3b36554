/**
 * A content fingerprint of a model's files, for the manifest: the same bytes give the same fingerprint wherever they
 * are and whenever they were written.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** What a directory's weights, architecture, tokenizer and chat template are in. */
const MODEL_FILE = /\.(?:json|safetensors|jinja|model)$/;

const READ_BYTES = 1 << 20;

export type FingerprintProgress = (progress: {
  readonly doneBytes: number;
  readonly totalBytes: number;
}) => void;

/**
 * SHA-256, in hex, of a file's bytes; of a directory, of its model files by name: each as its name, a zero byte, its
 * length as text, a zero byte, and its bytes. Streams and calls `onProgress` after every
 * megabyte.
 * @throws the file system's error when a file can't be read
 */
export async function fingerprintSource(path: string, onProgress?: FingerprintProgress): Promise<string> {
  const hash = createHash('sha256');
  const { isDirectory, files } = await modelFiles(path);
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

interface ModelFile {
  readonly name: string;
  readonly path: string;
  readonly bytes: number;
}

async function modelFiles(
  path: string,
): Promise<{ readonly isDirectory: boolean; readonly files: ModelFile[] }> {
  const found = await stat(path);
  if (!found.isDirectory()) return { isDirectory: false, files: [{ name: path, path, bytes: found.size }] };
  const names = (await readdir(path)).filter((name) => MODEL_FILE.test(name)).sort();
  const files: ModelFile[] = [];
  for (const name of names) {
    const file = join(path, name);
    files.push({ name, path: file, bytes: (await stat(file)).size });
  }
  return { isDirectory: true, files };
}
