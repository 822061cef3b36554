/**
 * Which files of a Hub repository make a model: safetensors with config and tokenizer, or one GGUF file.
 *
 * Works on the list of files alone. File names come from the network and are checked before they become paths.
 */
import { RadixkvError } from '../../errors.js';

export interface HubFile {
  /** Path in the repository, with `/`. */
  readonly path: string;
  readonly bytes: number | undefined;
  /** Known for files in large-file storage only. */
  readonly sha256: string | undefined;
}

export interface HubChoice {
  readonly format: 'gguf' | 'safetensors';
  readonly files: readonly HubFile[];
}

const SIDE_FILES = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'chat_template.json',
  'model.safetensors.index.json',
];

/** Quantisations to take when a repository offers several and none was named: small, exact in our 4 or 8 bits. */
const GGUF_PREFERENCE = ['Q4_K_M', 'Q4_1', 'Q4_0', 'Q8_0', 'Q5_K_M', 'Q6_K', 'BF16', 'F16', 'F32'];

/**
 * @param wanted Path of one GGUF file, when the user named it.
 * @throws RadixkvError `model_not_found` for a named file that is not there, `unsupported_model` when the files make
 * no model we can import; the message lists what there is.
 */
export function chooseHubFiles(
  repo: string,
  files: readonly HubFile[],
  wanted: string | undefined,
): HubChoice {
  for (const file of files) assertSafePath(repo, file.path);
  if (wanted !== undefined) {
    const file = files.find((candidate) => candidate.path === wanted);
    if (file !== undefined) return { format: 'gguf', files: [file] };
    throw new RadixkvError('model_not_found', `${repo} has no file ${wanted}; ${ggufList(files)}`);
  }
  return safetensors(repo, files) ?? gguf(repo, files);
}

function safetensors(repo: string, files: readonly HubFile[]): HubChoice | undefined {
  const names = new Set(files.map((file) => file.path));
  const sharded = names.has('model.safetensors.index.json');
  const isWeights = (path: string) =>
    sharded ? /^model-\d+-of-\d+\.safetensors$/.test(path) : path === 'model.safetensors';
  const chosen = files.filter((file) => SIDE_FILES.includes(file.path) || isWeights(file.path));
  if (!chosen.some((file) => isWeights(file.path)) || !names.has('config.json')) return undefined;
  if (!names.has('tokenizer.json')) {
    throw new RadixkvError('unsupported_model', `${repo} has no tokenizer.json, which the import needs`);
  }
  return { format: 'safetensors', files: chosen };
}

function gguf(repo: string, files: readonly HubFile[]): HubChoice {
  const all = files.filter((file) => file.path.endsWith('.gguf'));
  const whole = all.filter((file) => !/-\d{5}-of-\d{5}\.gguf$/.test(file.path) && !/mmproj/i.test(file.path));
  if (whole.length === 1) return { format: 'gguf', files: whole };
  for (const quant of GGUF_PREFERENCE) {
    const file = whole.find((candidate) => new RegExp(`[-._/]${quant}\\.gguf$`, 'i').test(candidate.path));
    if (file !== undefined) return { format: 'gguf', files: [file] };
  }
  if (whole.length > 0) {
    throw new RadixkvError(
      'unsupported_model',
      `${repo}: name one file, hf:${repo}/<file>; ${ggufList(whole)}`,
    );
  }
  const why =
    all.length > 0
      ? 'only split GGUF files, which are not supported'
      : 'no safetensors with config.json and no GGUF file';
  throw new RadixkvError('unsupported_model', `${repo} has ${why}`);
}

function ggufList(files: readonly HubFile[]): string {
  const paths = files.map((file) => file.path).filter((path) => path.endsWith('.gguf'));
  return paths.length === 0 ? 'it has no GGUF file' : `it has ${paths.join(', ')}`;
}

function assertSafePath(repo: string, path: string): void {
  const safe = path.split('/').every((part) => /^[^\\\0:]+$/.test(part) && part !== '.' && part !== '..');
  if (!safe)
    throw new RadixkvError(
      'download_failed',
      `${repo} lists a file with an unsafe name: ${JSON.stringify(path)}`,
    );
}
