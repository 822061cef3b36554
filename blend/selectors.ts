/**
 * The selectors. `hkvd`, `heads` and `random` don't look at the question, so what they recompute may be kept for the
 * next one; what `question` and `hybrid` recompute belongs to its question.
 */
import assert from 'node:assert/strict';
import { budgeted, highest, type Selector } from './selector.js';

export interface SelectorOptions {
  /** `hkvd`: the deviation of keys or of values decides. Default `K`. */
  readonly deviationOf?: 'K' | 'V';
  /** `hkvd`: the deviation is divided by the norm of the fresh row. Default false. */
  readonly relative?: boolean;
  /** `hkvd`: layers that check, ascending, the first at least 1; several filter gradually. Default `[1]`. */
  readonly checkLayers?: readonly number[];
  /** `hybrid`: tokens at the head of each segment that come first. Default 4. */
  readonly headTokens?: number;
  /** `random`. Default 0. */
  readonly seed?: number;
}

/** The first of several checks keeps this share more than the ratio, the last exactly the ratio. */
const GRADUAL_HEADROOM = 0.5;

/**
 * Tokens of high KV deviation: CacheBlend's own selector (Yao et al., EuroSys 2025, §4.3).
 *
 * One check layer compares all reused tokens and keeps the most deviating. Several filter gradually: each compares
 * what the check before kept, and keeps a little less of it, in equal steps. The paper leaves the steps open and
 * holds their mean over all layers at the ratio; here the last set is the ratio's, since it is what all layers
 * recompute. CacheBlend's code checks V once, LMCache's K after rotation, both at layer 1.
 */
function hkvd(options: SelectorOptions = {}): Selector {
  const { deviationOf = 'K', relative = false, checkLayers = [1] } = options;
  assert(checkLayers.length > 0 && checkLayers.every((layer, i) => layer > (checkLayers[i - 1] ?? 0)));
  return budgeted(function* (tokens, count) {
    let kept = tokens;
    for (const [check, layer] of checkLayers.entries()) {
      const { positions } = kept;
      const deviations = yield { kind: 'deviation', of: deviationOf, relative, layer, positions };
      kept = highest(kept, keptTokens(count, check, checkLayers.length, positions.length), deviations);
    }
    return kept.positions;
  });
}

function keptTokens(count: number, check: number, checks: number, tokens: number): number {
  const remaining = (checks - 1 - check) / Math.max(1, checks - 1);
  return Math.min(tokens, Math.ceil(count * (1 + GRADUAL_HEADROOM * remaining)));
}

/**
 * The first tokens of each segment, as many as the ratio pays for: LegoLink-k of EPIC (arXiv 2410.15332), with k
 * from the budget, so that it compares with the others. A segment's head became an attention sink when the segment
 * was computed alone, and should no longer be one. What is left beyond k tokens each goes to the first segments.
 */
function heads(): Selector {
  return budgeted((tokens, count) => {
    const earliness = tokens.offsets.map((offset) => -offset);
    return highest(tokens, count, earliness).positions;
  });
}

/**
 * What the question attends to, over all layers: the question-guided selection of FusionRAG (arXiv 2601.12904),
 * which scores by the last layer, with the sum over layers of ProphetKV (arXiv 2602.02579).
 */
function question(): Selector {
  return budgeted(function* (tokens, count) {
    const attention = yield { kind: 'attention', positions: tokens.positions };
    return highest(tokens, count, attention).positions;
  });
}

/** The heads of the segments, and then what the question attends to; by attention among the heads too. The default. */
function hybrid({ headTokens = 4 }: SelectorOptions = {}): Selector {
  return budgeted(function* (tokens, count) {
    const attention = yield { kind: 'attention', positions: tokens.positions };
    const isHead = tokens.offsets.map((offset) => (offset < headTokens ? 1 : 0));
    return highest(tokens, count, isHead, attention).positions;
  });
}

/**
 * Any tokens: what a selector must beat. Seed and position decide, so that a higher ratio adds to the choice of a
 * lower one.
 */
function random({ seed = 0 }: SelectorOptions = {}): Selector {
  return budgeted((tokens, count) => {
    const lots = tokens.positions.map((position) => mixed(mixed(seed) ^ position));
    return highest(tokens, count, lots).positions;
  });
}

/** Plain reuse, whatever the ratio. */
function none(): Selector {
  return (tokens) => heads()(tokens, 0);
}

/** Recomputes all reused tokens, whatever the ratio. */
function all(): Selector {
  return (tokens) => heads()(tokens, 1);
}

/** Mixes the 32 bits of an integer, one to one (the finaliser of MurmurHash3). */
function mixed(bits: number): number {
  let hash = bits;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

/** By name; each takes the options that are its own and leaves the others. */
export const SELECTORS = { hkvd, heads, question, hybrid, random, none, all } as const satisfies Record<
  string,
  (options?: SelectorOptions) => Selector
>;

export type SelectorName = keyof typeof SELECTORS;

export const DEFAULT_SELECTOR: SelectorName = 'hybrid';
