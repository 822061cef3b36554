/** Isolation by credentials, where no keys are required. */
import { createHash } from 'node:crypto';

/** SHA-256 (hex) of the credentials, so that they go no further themselves; `''` without any. */
export function namespaceOf(credentials: string): string {
  return credentials === '' ? '' : createHash('sha256').update(credentials).digest('hex');
}

/** Digits of a namespace that name it to people. */
const TENANT_DIGITS = 16;

/** A short id of the namespace, for statistics; `anonymous` without credentials. */
export function tenantOf(namespace: string): string {
  return namespace === '' ? 'anonymous' : namespace.slice(0, TENANT_DIGITS);
}
