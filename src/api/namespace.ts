/**
 * Isolation by credentials, and within them by salt.
 *
 * All namespaces are 64 hex digits, so that no key goes any further, or `''`. No salted one is that of credentials: it is
 * the hash of a text with a NUL, which no header can have.
 */
import { createHash } from 'node:crypto';

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** Of the credentials, where no keys are required; `''` without any. */
export function namespaceOf(credentials: string): string {
  return credentials === '' ? '' : hashOf(credentials);
}

/** The part of a namespace that a salt sets apart. A namespace has no NUL, so that the text means one pair only. */
export function saltedNamespace(namespace: string, salt: string | undefined): string {
  return salt === undefined ? namespace : hashOf(`${namespace}\0${salt}`);
}

/** Digits of a namespace that name it to people. */
const TENANT_DIGITS = 16;

/** A short id of the namespace, for statistics; `anonymous` without credentials. */
export function tenantOf(namespace: string): string {
  return namespace === '' ? 'anonymous' : namespace.slice(0, TENANT_DIGITS);
}
