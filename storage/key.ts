/**
 * The name of a KV chunk, the same in every process and every tier.
 *
 * SHA-256 over five fields, each preceded by its length in bytes (uint32, little-endian):
 *
 * | field       | bytes                                                        |
 * |-------------|--------------------------------------------------------------|
 * | version     | UTF-8 `radixkv-chunk-1`                                      |
 * | fingerprint | UTF-8; of weights, weight format, KV layout, RoPE, tokenizer |
 * | salt        | UTF-8; of the namespace, so that tenants share no key        |
 * | parent      | the parent's key as 64 hex digits; empty for the first chunk |
 * | tokens      | int32 little-endian each                                     |
 *
 * Equal keys mean equal KV, since the parent's key covers all tokens before. Assumes a little-endian machine.
 */
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';

declare const brand: unique symbol;

/** 64 lowercase hex digits. */
export type ChunkKey = string & { readonly [brand]: 'ChunkKey' };

const VERSION = 'radixkv-chunk-1';
const KEY_LENGTH = 64;

/** The key of the chunk that holds `tokens` after the chunk `parent` (undefined: from position 0). */
export function chunkKey(chunk: {
  readonly fingerprint: string;
  readonly salt: string;
  readonly parent: ChunkKey | undefined;
  readonly tokens: Int32Array;
}): ChunkKey {
  const { fingerprint, salt, parent = '', tokens } = chunk;
  const texts = [VERSION, fingerprint, salt, parent];
  const textBytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  const bytes = Buffer.allocUnsafe(4 * 5 + textBytes + tokens.byteLength);
  let at = 0;
  for (const text of texts) {
    const length = bytes.write(text, at + 4);
    bytes.writeUInt32LE(length, at);
    at += 4 + length;
  }
  bytes.writeUInt32LE(tokens.byteLength, at);
  bytes.set(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength), at + 4);
  return chunkKeyOf(hash('sha256', bytes));
}

/** Asserts 64 lowercase hex digits. */
export function chunkKeyOf(text: string): ChunkKey {
  assert(isChunkKey(text));
  return text;
}

/** The keys in a text of one after another. Asserts that it holds nothing else. */
export function chunkKeysIn(joined: string): ChunkKey[] {
  assert(joined.length % KEY_LENGTH === 0 && /^[0-9a-f]*$/.test(joined));
  return Array.from({ length: joined.length / KEY_LENGTH }, (_, i) => {
    const key = joined.slice(i * KEY_LENGTH, (i + 1) * KEY_LENGTH);
    assert(isOfKeyLength(key));
    return key;
  });
}

/** Enough for text that is known to be lowercase hex, of which there may be much. */
export function isOfKeyLength(hex: string): hex is ChunkKey {
  return hex.length === KEY_LENGTH;
}

export function isChunkKey(text: string): text is ChunkKey {
  return /^[0-9a-f]{64}$/.test(text);
}
