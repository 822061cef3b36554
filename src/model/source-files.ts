/**
 * The files of a model that is to be imported, wherever it came from: nothing is read of it before they are looked at.
 *
 * Links are followed, since caches of downloads are made of them; what they lead to is checked like any other file.
 */
import type { Stats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { RadixkvError } from '../errors.js';

/** What a directory's weights, architecture, tokenizer and chat template are in. */
const MODEL_FILE = /\.(?:json|safetensors|jinja|model)$/;

/** Of a file that is read at once: all but weights. The largest known tokenizers take a tenth of it. */
const TEXT_BYTES_MAX = 256 * 2 ** 20;

export interface SourceFile {
  readonly name: string;
  readonly path: string;
  readonly bytes: number;
}

/**
 * A `.gguf` file, or the model files of a directory by name.
 * @throws RadixkvError `corrupt_model` for a device or a pipe, which could be read for ever, a link that leads nowhere, or
 * a text that is too large
 */
export async function sourceFiles(
  path: string,
): Promise<{ readonly isDirectory: boolean; readonly files: SourceFile[] }> {
  const found = await stat(path);
  if (!found.isDirectory()) return { isDirectory: false, files: [fileOf(path, path, found)] };
  const names = (await readdir(path)).filter((name) => MODEL_FILE.test(name)).sort();
  const files: SourceFile[] = [];
  for (const name of names) {
    const file = join(path, name);
    files.push(fileOf(name, file, await stat(file).catch(() => undefined)));
  }
  return { isDirectory: true, files };
}

function fileOf(name: string, path: string, found: Stats | undefined): SourceFile {
  const corrupt = (what: string) => new RadixkvError('corrupt_model', `${path} ${what}`);
  if (found === undefined) throw corrupt('is a link that leads nowhere');
  if (!found.isFile()) throw corrupt('is no file');
  const isText = !/\.(?:gguf|safetensors)$/.test(name);
  if (isText && found.size > TEXT_BYTES_MAX) {
    throw corrupt(`has ${found.size} bytes, more than the ${TEXT_BYTES_MAX} of a text`);
  }
  return { name, path, bytes: found.size };
}
