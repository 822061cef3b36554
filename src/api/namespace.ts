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

/** Digits of a namespace that name it to people. */
const TENANT_DIGITS = 16;

/** A short id of the namespace, for statistics; `anonymous` without credentials. */
export function tenantOf(namespace: string): string {
  return namespace === '' ? 'anonymous' : namespace.slice(0, TENANT_DIGITS);
}
