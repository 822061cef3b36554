/** Paths and decoding of the committed golden files. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Path of a file in `tests/golden`, from the built test. */
export const goldenPath = (name: string): string =>
  fileURLToPath(new URL(`../../../tests/golden/${name}`, import.meta.url));

export const goldenJson = (name: string): unknown => JSON.parse(readFileSync(goldenPath(name), 'utf8'));

/** Bytes of a base64 string in memory of their own. */
export const base64Bytes = (encoded: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(Buffer.from(encoded, 'base64'));
