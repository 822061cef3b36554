/** Isolation by API key. */
import { createHash } from 'node:crypto';

/**
 * The namespace of a request: SHA-256 (hex) of the bearer token, so that the key itself goes no further; `''`
 * without credentials. Credentials of another scheme are hashed whole.
 */
export function namespaceOf(authorization: string | undefined): string {
  const credentials = authorization?.trim().replace(/^bearer(\s+|$)/i, '') ?? '';
  return credentials === '' ? '' : createHash('sha256').update(credentials).digest('hex');
}
