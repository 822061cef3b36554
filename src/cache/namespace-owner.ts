/**
 * Whose a namespace is. A tenant's KV lies in several: its prompts, the passages beside them (segment-namespace.ts), and
 * of both the parts that salts set apart.
 *
 * | namespace | holds |
 * |---|---|
 * | `owner` | prompts |
 * | `owner.salt` | prompts of a salt |
 * | `segment:owner`, `segment:owner.salt` | passages |
 *
 * An owner is 64 hex digits or empty, so that each namespace reads in one way only.
 */
import { isSegmentNamespace, segmentNamespace, withoutSegment } from './segment-namespace.js';

const SALT_MARK = '.';

/** The part of an owner's namespace that a salt sets apart. @param saltHash hex digits that stand for the salt */
export function saltedPart(owner: string, saltHash: string): string {
  return `${owner}${SALT_MARK}${saltHash}`;
}

/** What a namespace is made of. */
export function namespaceParts(namespace: string): {
  readonly isSegment: boolean;
  readonly owner: string;
  readonly saltHash: string | undefined;
} {
  const [owner = '', saltHash] = withoutSegment(namespace).split(SALT_MARK);
  return { isSegment: isSegmentNamespace(namespace), owner, saltHash };
}

/** The owner of a namespace. */
export function ownerOf(namespace: string): string {
  return namespaceParts(namespace).owner;
}

/** Both places of one part: prompts, and passages. */
export function bothOf(part: string): readonly string[] {
  return [part, segmentNamespace(part)];
}
