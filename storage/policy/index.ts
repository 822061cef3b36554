/** Eviction policies by name. See policy.ts. */
import { Lru } from './lru.js';
import type { Policy } from './policy.js';

export const POLICIES = { lru: () => new Lru() } as const satisfies Record<string, () => Policy>;

export type PolicyName = keyof typeof POLICIES;

export const POLICY_NAMES = ['lru'] as const satisfies readonly PolicyName[];

export const DEFAULT_POLICY: PolicyName = 'lru';
