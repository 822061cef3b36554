/**
 * Many loaded chunks as a few long values, which a message between threads carries several times as fast as one object
 * a chunk.
 */
import { chunkKeysIn } from '../key.js';
import type { LoadedChunk } from './backend.js';

/** In the place of a parent that is not. */
const NO_KEY = '0'.repeat(64);

const IS_OWN = 1;
const IS_EXACT = 2;
const IS_ROOT = 4;

/** Numbers of one chunk, in this order; NaN for what is undefined. */
const NUMBERS = 10;

export interface PackedChunks {
  /** One after another. */
  readonly keys: string;
  /** Likewise; zeros at position 0. */
  readonly parents: string;
  readonly namespaces: readonly string[];
  /** `[n]`, the place of a chunk's namespace in `namespaces`. */
  readonly namespaceOf: Uint32Array<ArrayBuffer>;
  /** One chunk's after another's. */
  readonly tokens: Int32Array<ArrayBuffer>;
  /** `[n, NUMBERS]` */
  readonly numbers: Float64Array<ArrayBuffer>;
}

export function packChunks(chunks: readonly LoadedChunk[]): PackedChunks {
  const namespaces = [...new Set(chunks.map(({ namespace }) => namespace))];
  const places = new Map(namespaces.map((namespace, place) => [namespace, place]));
  const tokens = new Int32Array(chunks.reduce((sum, chunk) => sum + chunk.tokens.length, 0));
  const numbers = new Float64Array(chunks.length * NUMBERS);
  let start = 0;
  for (const [i, chunk] of chunks.entries()) {
    tokens.set(chunk.tokens, start);
    start += chunk.tokens.length;
    const { usage } = chunk;
    const at = i * NUMBERS;
    numbers[at] = chunk.tokens.length;
    numbers[at + 1] =
      (chunk.isOwn ? IS_OWN : 0) |
      (chunk.isExact ? IS_EXACT : 0) |
      (chunk.parent === undefined ? IS_ROOT : 0);
    numbers[at + 2] = chunk.fileBytes;
    numbers[at + 3] = chunk.createdAtMs;
    numbers[at + 4] = usage.usedAtMs;
    numbers[at + 5] = usage.hits;
    numbers[at + 6] = usage.pinnedUntilMs ?? Number.NaN;
    numbers[at + 7] = usage.pinTtlMs ?? Number.NaN;
    numbers[at + 8] = usage.ttlMs ?? Number.NaN;
    numbers[at + 9] = usage.priority;
  }
  return {
    keys: chunks.map(({ key }) => key).join(''),
    parents: chunks.map(({ parent }) => parent ?? NO_KEY).join(''),
    namespaces,
    namespaceOf: Uint32Array.from(chunks, ({ namespace }) => places.get(namespace)!),
    tokens,
    numbers,
  };
}

export function unpackChunks(packed: PackedChunks): LoadedChunk[] {
  const { numbers, tokens } = packed;
  const keys = chunkKeysIn(packed.keys);
  const parents = chunkKeysIn(packed.parents);
  let start = 0;
  return Array.from(packed.namespaceOf, (namespace, i) => {
    const at = i * NUMBERS;
    const flags = numbers[at + 1]!;
    const ownTokens = tokens.subarray(start, start + numbers[at]!);
    start += ownTokens.length;
    return {
      key: keys[i]!,
      parent: (flags & IS_ROOT) !== 0 ? undefined : parents[i],
      namespace: packed.namespaces[namespace]!,
      tokens: ownTokens,
      isOwn: (flags & IS_OWN) !== 0,
      isExact: (flags & IS_EXACT) !== 0,
      fileBytes: numbers[at + 2]!,
      createdAtMs: numbers[at + 3]!,
      usage: {
        usedAtMs: numbers[at + 4]!,
        hits: numbers[at + 5]!,
        pinnedUntilMs: defined(numbers[at + 6]!),
        pinTtlMs: defined(numbers[at + 7]!),
        ttlMs: defined(numbers[at + 8]!),
        priority: numbers[at + 9]!,
      },
    };
  });
}

const defined = (number: number): number | undefined => (Number.isNaN(number) ? undefined : number);
