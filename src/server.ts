/** PLACEHOLDER for the composition of engine, cache, service and API; only its signature is final. */
import type { ServeOptions } from './config/options.js';
import { RadixkvError } from './errors.js';

/** Starts serving the model in `modelDirectory`; `close` finishes requests under way. */
export async function startRadixkv(
  _options: ServeOptions,
  _modelDirectory: string,
): Promise<{ readonly url: string; close(): Promise<void> }> {
  throw new RadixkvError('internal', 'serving is not built yet');
}
