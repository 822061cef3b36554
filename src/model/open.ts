/** Opens a model wherever its files are: a `.gguf` file, or a directory in Hugging Face layout. */
import { stat } from 'node:fs/promises';
import { RadixkvError } from '../errors.js';
import { openGguf } from './gguf/source.js';
import { openHuggingFaceDirectory } from './safetensors/source.js';
import { sourceFiles } from './source-files.js';
import type { WeightSource } from './weights.js';

/**
 * @throws RadixkvError `model_not_found` when nothing is at `path`, `unsupported_model` or `corrupt_model` when we
 * can't use what is
 */
export async function openWeights(path: string): Promise<WeightSource> {
  const found = await stat(path).catch((cause: unknown) => {
    throw new RadixkvError('model_not_found', `no model at ${path}`, { cause });
  });
  if (found.isDirectory() || path.endsWith('.gguf')) {
    await sourceFiles(path);
    return found.isDirectory() ? openHuggingFaceDirectory(path) : openGguf(path);
  }
  throw new RadixkvError(
    'unsupported_model',
    `${path} is neither a .gguf file nor a directory with config.json and .safetensors files`,
  );
}
