/** Files of tests/golden, from built tests. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

/** Path of a golden file: tests run from `dist/tests/text`. */
export function golden(name: string): URL {
  return new URL(`../../../tests/golden/${name}`, import.meta.url);
}

/** GGUF metadata of a committed vocabulary, a fresh copy. */
export function vocabulary(name: 'smollm2' | 'sentencepiece'): Record<string, unknown> {
  return parse(gunzipSync(readFileSync(golden(`${name}-vocabulary.json.gz`))).toString());
}

/** JSON that the repository itself commits. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters
export function parse<T>(json: string): T {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return JSON.parse(json) as T;
}
