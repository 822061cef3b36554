/**
 * Isolation by API key, and within one by salt.
 *
 * All namespaces are SHA-256 in hex, so that no key goes any further, or `''`. No salted one is that of a key: it is the
 * hash of a text with a NUL, which no header can have.
 */
import { createHash } from 'node:crypto';

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** The namespace of an API key; `''` without one. */
export function namespaceOfKey(key: string | undefined): string {
  const trimmed = key?.trim() ?? '';
  return trimmed === '' ? '' : hashOf(trimmed);
}

/**
 * The namespace of a request with an `authorization` header: that of its bearer token. Credentials of another scheme are
 * hashed whole.
 */
export function namespaceOf(authorization: string | undefined): string {
  return namespaceOfKey(authorization?.trim().replace(/^bearer(\s+|$)/i, ''));
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
