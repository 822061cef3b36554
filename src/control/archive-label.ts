/**
 * What stands for a namespace in an archive: its kind, whose it is (by a name, or nothing in an archive of one tenant),
 * and the hash of its salt. A tenant's namespace itself is secret, and another one on another machine.
 *
 * `prompts/acme/`, `passages//9f86d081…`
 */
import { bothOf, namespaceParts, saltedPart } from '../cache/namespace-owner.js';

const KINDS = ['prompts', 'passages'] as const;

const LABEL = /^(prompts|passages)\/([A-Za-z0-9._-]{0,64})\/([0-9a-f]{64})?$/;

/** Of every label. */
export const LABEL_BYTES_MAX = 9 + 64 + 64 + 1;

/** @param name whose it is */
export function labelOf(namespace: string, name: string): string {
  const { isSegment, saltHash } = namespaceParts(namespace);
  return [KINDS[isSegment ? 1 : 0], name, saltHash ?? ''].join('/');
}

/** The namespace that a label means here; undefined for what is no label, or of nobody here. */
export function labelled(
  label: string,
  ownerNamed: (name: string) => string | undefined,
): string | undefined {
  const [, kind, name, saltHash] = LABEL.exec(label) ?? [];
  const owner = name === undefined ? undefined : ownerNamed(name);
  if (owner === undefined) return undefined;
  const part = saltHash === undefined ? owner : saltedPart(owner, saltHash);
  return bothOf(part)[kind === 'passages' ? 1 : 0];
}
