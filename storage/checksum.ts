/**
 * The checksum that tells a sound chunk from a corrupt one: XXH64 with seed 0, by WebAssembly.
 *
 * Against accidents, not attackers; the identity of a chunk is its key. Each thread creates its own.
 */
import xxhash from 'xxhash-wasm';

/** XXH64 of all bytes of the view; it may lie in shared memory. */
export type Checksum = (bytes: Uint8Array) => bigint;

/** Compiles the hash. Its memory grows to the longest input (the bytes are copied in). */
export async function createChecksum(): Promise<Checksum> {
  const api = await xxhash();
  return (bytes) => api.h64Raw(bytes);
}
