/**
 * Where a model comes from: what the user writes after `radixkv model import`, made into a local path.
 *
 *   smollm2-135m-instruct              the built-in default model
 *   hf:org/name[/file.gguf][@revision] a repository of the Hub
 *   path/to/file.gguf, path/to/dir     a local file, or a directory in Hugging Face layout
 *
 * A local file of the alias' name is written `./name`. Knows nothing of what is inside a model.
 */
import { stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { RadixkvError } from '../../errors.js';
import type { OnProgress } from '../progress.js';
import { DEFAULT_MODEL, fetchPinnedModel } from './default-model.js';
import { sizeOf } from './download.js';
import type { HttpOptions } from './http.js';
import { downloadHubModel } from './hub.js';

export type ModelSource =
  | { readonly kind: 'alias' }
  | {
      readonly kind: 'hub';
      readonly repo: string;
      readonly revision: string;
      readonly file: string | undefined;
    }
  | { readonly kind: 'local'; readonly path: string };

export interface ResolveOptions {
  readonly downloadsDirectory: string;
  readonly hub: HttpOptions;
  readonly onProgress?: OnProgress | undefined;
  readonly onNotice?: ((message: string) => void) | undefined;
}

/** @throws RadixkvError `invalid_value` for a malformed `hf:` source. */
export function parseSource(text: string): ModelSource {
  if (text === DEFAULT_MODEL.alias) return { kind: 'alias' };
  if (!text.startsWith('hf:')) return { kind: 'local', path: resolve(text) };
  const match = /^hf:([\w-][\w.-]*\/[\w-][\w.-]*)(?:\/([^@]+\.gguf))?(?:@([\w./-]+))?$/.exec(text);
  if (match === null) {
    throw new RadixkvError(
      'invalid_value',
      `"${text}" is not of the form hf:org/name[/file.gguf][@revision]`,
    );
  }
  return { kind: 'hub', repo: match[1]!, revision: match[3] ?? 'main', file: match[2] };
}

/** The name a model gets unless the user gives one: lower case, of letters, digits and `.`, `_`, `-`. */
export function suggestName(source: ModelSource): string {
  if (source.kind === 'alias') return DEFAULT_MODEL.alias;
  const last = source.kind === 'local' ? basename(source.path) : basename(source.file ?? source.repo);
  const name = last
    .replace(/\.gguf$/i, '')
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-');
  return name.replace(/^[^a-z0-9]+/, '') || 'model';
}

/**
 * Downloads what is not local.
 *
 * @returns Path of a `.gguf` file or of a directory with `config.json`.
 * @throws RadixkvError `model_not_found` or `unsupported_model` for a local path that is no model; as the downloads do.
 */
export async function resolveSource(source: ModelSource, options: ResolveOptions): Promise<string> {
  const { hub, onProgress, onNotice, downloadsDirectory } = options;
  if (source.kind === 'local') return checkLocal(source.path);
  if (source.kind === 'alias') {
    return fetchPinnedModel(DEFAULT_MODEL, { directory: downloadsDirectory, hub, onProgress, onNotice });
  }
  const { path } = await downloadHubModel(hub, source, join(downloadsDirectory, 'hub'), onProgress);
  if (source.file === undefined && path.endsWith('.gguf'))
    onNotice?.(`${source.repo}: taking ${basename(path)}`);
  return path;
}

async function checkLocal(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) throw new RadixkvError('model_not_found', `there is no file or directory ${path}`);
  if (found.isDirectory() ? (await sizeOf(join(path, 'config.json'))) !== undefined : path.endsWith('.gguf'))
    return path;
  const expected = found.isDirectory() ? 'has no config.json' : 'is not a .gguf file';
  throw new RadixkvError('unsupported_model', `${path} ${expected}`);
}
