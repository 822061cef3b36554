/**
 * The cipher of archives: under a key derived from the one of chunks on disk, so that machines with the same key can
 * exchange them, and nobody else can read or make one.
 */
import { hkdfSync, randomBytes } from 'node:crypto';
import { ChunkCipher, CIPHER_KEY_BYTES } from '#storage';

export function archiveCipher(encryptionKey: Uint8Array): ChunkCipher {
  const key = hkdfSync('sha256', encryptionKey, '', 'radixkv-archives', CIPHER_KEY_BYTES);
  return new ChunkCipher(new Uint8Array(key), randomBytes);
}
