/** Why a prompt could not be reused any further, as far as the cache tells. Knows tokens, no text. */
import type { Parting } from '#radix';

/**
 * - `nothing_cached`: no cached sequence begins like the prompt;
 * - `cached_ends`: it goes on where the cached sequence ends, as the next turn of a chat does;
 * - `other_text`: the cached sequence goes on in other words;
 * - `not_ready`: it is known, but can't be reused: rows of an answer that are not computed again yet, or lost chunks.
 */
export type MissReason = 'nothing_cached' | 'cached_ends' | 'other_text' | 'not_ready';

/** Tokens of text that are shown before and after the point. */
export const SHOWN_BEFORE_TOKENS = 24;
export const SHOWN_AFTER_TOKENS = 32;

/** Where a prompt left what is cached. */
export interface Miss {
  /** The first token that can't be reused. */
  readonly token: number;
  readonly reason: MissReason;
}

/**
 * Undefined where nothing is missed but the last token, which is always computed, for its logits.
 *
 * @param cached tokens that can be reused
 * @param parting of the nearest sequence
 */
export function missOf(
  prompt: Int32Array,
  cached: number,
  { parting, chunkTokens }: { readonly parting: Parting; readonly chunkTokens: number },
): Miss | undefined {
  if (cached >= prompt.length - 1) return undefined;
  const { depth, next } = parting;
  // Nobody finds less than a chunk below the device, so that a few tokens are no reason.
  if (depth - cached >= chunkTokens) return { token: cached, reason: 'not_ready' };
  if (depth === 0) return { token: 0, reason: 'nothing_cached' };
  return { token: depth, reason: next.length > 0 ? 'other_text' : 'cached_ends' };
}

/** What both have before the point, the prompt from it on, and the cached sequence from it on. */
export interface MissExcerpt {
  readonly common: Int32Array;
  readonly prompt: Int32Array;
  readonly cached: Int32Array;
}

/** Copies, so that the prompt itself need not be kept. */
export function excerptOf(prompt: Int32Array, { token, reason }: Miss, next: Int32Array): MissExcerpt {
  const own = prompt.slice(token, token + SHOWN_AFTER_TOKENS);
  return {
    common: prompt.slice(Math.max(0, token - SHOWN_BEFORE_TOKENS), token),
    prompt: own,
    cached: reason === 'not_ready' ? own : next,
  };
}
