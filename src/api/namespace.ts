/**
 * Isolation by credentials, and within them by salt.
 *
 * Of credentials there are 64 hex digits, so that no key goes any further, or `''`; of a salt its hash, behind them.
 */
import { createHash } from 'node:crypto';
import { saltedPart } from '../cache/namespace-owner.js';

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** Of the credentials, where no keys are required; `''` without any. */
export function namespaceOf(credentials: string): string {
  return credentials === '' ? '' : hashOf(credentials);
}

/** Whether a text is what `namespaceOf` may give. */
export function isOwner(text: string): boolean {
  return /^([0-9a-f]{64})?$/.test(text);
}

/** The part of a namespace that a salt sets apart. */
export function saltedNamespace(namespace: string, salt: string | undefined): string {
  return salt === undefined ? namespace : saltedPart(namespace, hashOf(salt));
}

/** Digits of a namespace that name it to people. */
const TENANT_DIGITS = 16;

/** A short id of the namespace, for statistics; `anonymous` without credentials. */
export function tenantOf(namespace: string): string {
  return namespace === '' ? 'anonymous' : namespace.slice(0, TENANT_DIGITS);
}
