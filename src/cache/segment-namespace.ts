/**
 * Where passages are kept: beside a tenant's prompts, in a namespace of their own, so that a prompt never finds the KV
 * of a passage by its tokens. They share the tiers with whole prompts, neither starving the other.
 */
import assert from 'node:assert/strict';
import type { Shares } from '#storage';

/** No tenant's namespace begins like this: see namespace-owner.ts. */
const PREFIX = 'segment:';

export const DEFAULT_SEGMENT_SHARE = 0.5;

/** The namespace of the passages of a tenant. */
export function segmentNamespace(namespace: string): string {
  assert(!isSegmentNamespace(namespace), 'passages have no passages');
  return `${PREFIX}${namespace}`;
}

export function isSegmentNamespace(namespace: string): boolean {
  return namespace.startsWith(PREFIX);
}

/** The namespace of the prompts beside passages; that of prompts as it is. */
export function withoutSegment(namespace: string): string {
  return isSegmentNamespace(namespace) ? namespace.slice(PREFIX.length) : namespace;
}

/** Divides a tier between whole prompts (`prefix`) and passages (`segment`), which are sure of `segmentShare` of it. */
export function segmentShares(segmentShare: number): Shares {
  return {
    of: { prefix: 1 - segmentShare, segment: segmentShare },
    classOf: (namespace) => (isSegmentNamespace(namespace) ? 'segment' : 'prefix'),
  };
}
