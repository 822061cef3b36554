/** Eviction policies by name. See policy.ts. */
import { Adaptive } from './adaptive.js';
import { Gdsf } from './gdsf.js';
import { Lfu } from './lfu.js';
import { Lru } from './lru.js';
import type { Policy, PolicyTier } from './policy.js';
import { S3Fifo } from './s3-fifo.js';
import { Slru } from './slru.js';

export const POLICY_NAMES = ['adaptive', 'lru', 'lfu', 'slru', 's3-fifo', 'gdsf'] as const;

export type PolicyName = (typeof POLICY_NAMES)[number];

export const DEFAULT_POLICY: PolicyName = 'adaptive';

const CREATE: Readonly<Record<PolicyName, (tier: PolicyTier) => Policy>> = {
  adaptive: (tier) => new Adaptive(tier),
  lru: () => new Lru(),
  lfu: () => new Lfu(),
  slru: (tier) => new Slru(tier),
  's3-fifo': (tier) => new S3Fifo(tier),
  gdsf: () => new Gdsf(),
};

/** A policy for one tier. */
export function createPolicy(name: PolicyName, tier: PolicyTier): Policy {
  return CREATE[name](tier);
}
