/**
 * Encryption at rest: AES-256-GCM with one key for a directory, and a random nonce for each sealed text.
 *
 * A text becomes a seal, nonce (12 bytes) ‖ tag (16), and as many sealed bytes as it has. A nonce must never come twice under
 * one key; with random ones that is safe to assume for 2³² texts (NIST SP 800-38D, 8.3), two a chunk and one more in
 * the catalogue. Who opens learns nothing but that something does not match: a wrong key, another text, a flipped
 * bit. The key id tells keys apart without telling anything about them.
 */
import assert from 'node:assert/strict';
import { createCipheriv, createDecipheriv, createHash } from 'node:crypto';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
export const SEAL_BYTES = NONCE_BYTES + TAG_BYTES;

export const CIPHER_KEY_BYTES = 32;
export const KEY_ID_BYTES = 8;

/** Cryptographically random bytes, of the given number. */
export type RandomBytes = (bytes: number) => Uint8Array;

export class ChunkCipher {
  readonly keyId: Uint8Array;
  readonly #key: Uint8Array;
  readonly #random: RandomBytes;

  /** Asserts a key of 32 bytes. */
  constructor(key: Uint8Array, random: RandomBytes) {
    assert.equal(key.byteLength, CIPHER_KEY_BYTES);
    this.#key = key;
    this.#random = random;
    this.keyId = createHash('sha256').update('radixkv-key-id').update(key).digest().subarray(0, KEY_ID_BYTES);
  }

  /** Encrypts. The context is not in the result, but must be given again to open it. */
  seal(text: Uint8Array, context: Uint8Array): { readonly seal: Buffer; readonly sealed: Buffer } {
    const nonce = this.#random(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce);
    cipher.setAAD(context);
    const sealed = cipher.update(text);
    cipher.final();
    return { seal: Buffer.concat([nonce, cipher.getAuthTag()]), sealed };
  }

  /** The text, or undefined when seal, sealed text, context and key do not belong together. */
  open(seal: Uint8Array, sealed: Uint8Array, context: Uint8Array): Buffer | undefined {
    if (seal.byteLength < SEAL_BYTES) return undefined;
    const decipher = createDecipheriv('aes-256-gcm', this.#key, seal.subarray(0, NONCE_BYTES));
    decipher.setAAD(context);
    decipher.setAuthTag(seal.subarray(NONCE_BYTES, SEAL_BYTES));
    const text = decipher.update(sealed);
    try {
      decipher.final();
    } catch {
      return undefined;
    }
    return text;
  }
}
