/** Small true chunks: their keys are those of their tokens, and each has bytes of its own. */
import { type ChunkIdentity, type ChunkKey, chunkKey, type KvLayout, kvLayout } from '#storage';

export const FINGERPRINT = 'a model';

/** 2 tokens, 32 values a token: 128 bytes. */
export const LAYOUT: KvLayout = kvLayout({
  layers: 2,
  kvHeads: 1,
  headDim: 8,
  chunkTokens: 2,
  dtype: 'float16',
});

/** A chunk after `parent`, told apart from its siblings by `name`. */
export function chunkAfter(parent: ChunkKey | undefined, name: number, namespace = ''): ChunkIdentity {
  const tokens = Int32Array.of(name, 7);
  const key = chunkKey({ fingerprint: FINGERPRINT, salt: namespace, parent, tokens });
  return { key, parent, namespace, tokens };
}

/** Chunks, each after the one before. */
export function chainOf(length: number, namespace = ''): ChunkIdentity[] {
  const chain: ChunkIdentity[] = [];
  for (let i = 0; i < length; i++) chain.push(chunkAfter(chain.at(-1)?.key, i, namespace));
  return chain;
}

/** Bytes that no other chunk has, of finite float16 or float32 values. */
export function bytesOf({ key }: { readonly key: ChunkKey }, layout: KvLayout = LAYOUT): Uint8Array {
  const digits = Buffer.from(key, 'hex');
  return Uint8Array.from({ length: layout.chunkBytes }, (_, i) => digits[i % 32]! & 0x3f);
}
