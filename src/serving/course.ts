/**
 * What a request went through, for those who look at it when it has ended. Nothing of it is part of an answer; where
 * texts are not to be kept, it has none.
 */
import type { FinishReason, TierTokens } from './completion.js';
import type { Miss, MissExcerpt } from './miss.js';

/**
 * `load`: reading chunks from disk, within `queue` or beside the beginning of `prefill`. `blend`: the part of `prefill`
 * in which passages are put together. `paused`: it had given way to others.
 */
export const PHASES = ['queue', 'load', 'prefill', 'blend', 'decode', 'paused'] as const;
export type Phase = (typeof PHASES)[number];

/** Milliseconds, from the arrival of the request on. */
export interface PhaseSpan {
  readonly phase: Phase;
  readonly startMs: number;
  readonly durationMs: number;
}

/** Reused rows that stand in one node of the tree. */
export interface ReusedNode {
  readonly key: string;
  /** Prompt tokens before it. */
  readonly start: number;
  readonly tokens: number;
  /** How it begins. */
  readonly excerpt: Int32Array | undefined;
}

/** A stored document of the prompt, and how many of its tokens were reused and not recomputed. */
export interface ReusedDocument {
  readonly id: string;
  readonly tokens: number;
}

export interface RequestCourse {
  readonly spans: readonly PhaseSpan[];
  /** Of each choice; undefined where it did not come to an end. */
  readonly finishReasons: readonly (FinishReason | undefined)[];
  /** Tokens that were computed only since they had been evicted, in whole chunks, by the tier that had them last. */
  readonly regretted: TierTokens;
  /** Undefined: all was there, or nothing was looked for. */
  readonly miss: (Miss & { readonly excerpt: MissExcerpt | undefined }) | undefined;
  readonly nodes: readonly ReusedNode[];
  readonly documents: readonly ReusedDocument[];
}
