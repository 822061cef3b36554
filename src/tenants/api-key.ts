/**
 * The text of an API key, and what is kept of it.
 *
 * | characters | content |
 * |---|---|
 * | 3 | `rk_` |
 * | 8 | 6 random bytes in base64url: with `rk_` the id, which is shown and stored |
 * | 43 | 32 random bytes in base64url: the secret, which is not |
 *
 * Only the SHA-256 of the text is stored. The secret has 256 bits of entropy, so there is nothing for a slow hash to
 * slow down.
 */
import { createHash, randomBytes } from 'node:crypto';

const PREFIX = 'rk_';
const ID_CHARACTERS = PREFIX.length + 8;

/** A new key: the only time that its text is known. */
export function createApiKey(): { readonly id: string; readonly text: string } {
  const id = PREFIX + randomBytes(6).toString('base64url');
  return { id, text: id + randomBytes(32).toString('base64url') };
}

/** The id of a key, or of what is said to be one. */
export function idOfApiKey(text: string): string {
  return text.slice(0, ID_CHARACTERS);
}

/** 32 bytes. */
export function hashOfApiKey(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** The text with the secrets of all keys in it left out, for a log. */
export function withoutApiKeys(text: string): string {
  return text.replaceAll(/(rk_[\w-]{8})[\w-]{12,}/g, '$1…');
}
