/**
 * The tiny chat model of the tests: byte tokens, random weights, a context of 2,048 tokens. A prompt costs so little that
 * the cache is what works hardest.
 */
import { fileURLToPath } from 'node:url';
import { systemClock } from '../src/model/clock.js';
import { importModel } from '../src/model/importer.js';
import { ModelRegistry } from '../src/model/registry.js';

export const TINY_SOURCE = fileURLToPath(new URL('../../tests/golden/tiny/chat', import.meta.url));

export const TINY = 'tiny';
/** Imports it into `modelsDir` under the name `TINY`. @returns The model's directory. */
export async function importTiny(modelsDir: string): Promise<string> {
  const registry = new ModelRegistry({ directory: modelsDir, importModel, clock: systemClock });
  const { directory } = await registry.import({
    name: TINY,
    source: TINY_SOURCE,
    weights: 'auto',
    replace: false,
    locate: async () => TINY_SOURCE,
  });
  return directory;
}
