/**
 * What an operator or a client asks of the cache beside completions: what would hit, why something does not, to forget,
 * to look at the tree. Nothing here counts as a use, and nothing computes.
 */
import type { Place } from '#radix';
import type { KvCache } from '../cache/kv-cache.js';
import type { OutlinedNode } from '../cache/prefix-cache.js';
import { segmentNamespace } from '../cache/segment-namespace.js';
import { DEFAULT_CACHE, type Tier, type TierTokens, tokensOf } from '../serving/completion.js';
import type { EncodedRequest, PromptEncoder } from '../serving/prompt-encoder.js';
import type { Tokenizer } from '../text/tokenizer.js';
import {
  type Divergence,
  type DivergenceReason,
  lookalikeOf,
  messageAt,
  SHOWN_AFTER_TOKENS,
  SHOWN_BEFORE_TOKENS,
} from './divergence.js';

export interface DeskParts {
  readonly cache: KvCache;
  readonly prompts: PromptEncoder;
  readonly tokenizer: Tokenizer;
  readonly chunkTokens: number;
  /** Bytes of a chunk. */
  readonly chunkBytes: number;
}

/** A prompt, and whose. */
export type AskedPrompt = Pick<EncodedRequest, 'prompt' | 'promptField' | 'namespace'>;

export interface LookupReading {
  readonly promptTokens: number;
  /** Those that a request with `cache.mode` `auto` would find now, without its documents. */
  readonly cached: TierTokens;
}

export interface ExplainReading extends LookupReading {
  /** Undefined: nothing diverges. */
  readonly divergence: Divergence | undefined;
}

/** A node of the tree of whole prompts. */
export interface NodeReading extends Omit<OutlinedNode, 'tokens'> {
  readonly tokens: number;
  /** Of its chunks. */
  readonly bytes: number;
  /** How its text begins. */
  readonly text: string;
}

/** Tokens of a node whose text is shown. */
const NODE_TEXT_TOKENS = 32;

export class CacheDesk {
  readonly #parts: DeskParts;

  constructor(parts: DeskParts) {
    this.#parts = parts;
  }

  /** @throws RadixkvError as a completion of the prompt would. */
  async lookup(asked: AskedPrompt): Promise<LookupReading> {
    return this.#lookup(asked.namespace, this.encode(asked));
  }

  /** As `lookup`, and where and why the prompt leaves the nearest sequence that this node knows. */
  async explain(asked: AskedPrompt): Promise<ExplainReading> {
    const { cache, prompts, tokenizer } = this.#parts;
    const tokens = this.encode(asked);
    const reading = await this.#lookup(asked.namespace, tokens);
    const known = tokensOf({ ...reading.cached, remote: 0 });
    const { depth, next } = cache.parting(asked.namespace, tokens, SHOWN_AFTER_TOKENS);
    // The last token of a prompt is always computed, for its logits.
    if (tokensOf(reading.cached) >= tokens.length - 1) return { ...reading, divergence: undefined };
    const reason = this.#reasonOf({ cached: known, depth, goesOn: next.length > 0 });
    const token = reason === 'not_ready' ? known : depth;
    const promptText = tokenizer.decode(tokens.subarray(token, token + SHOWN_AFTER_TOKENS));
    const cachedText = reason === 'not_ready' ? promptText : tokenizer.decode(next);
    const { prompt } = asked;
    const message =
      prompt.kind === 'chat'
        ? messageAt(prompt.messages, { tokens, token }, (messages) => prompts.encodeMessages(messages))
        : undefined;
    const divergence: Divergence = {
      token,
      reason,
      message,
      commonText: tokenizer.decode(tokens.subarray(Math.max(0, token - SHOWN_BEFORE_TOKENS), token)),
      promptText,
      cachedText,
      looksLike: reason === 'other_text' ? lookalikeOf(promptText, cachedText) : undefined,
    };
    return { ...reading, divergence };
  }

  /**
   * Forgets all that is cached of a tenant, its passages too, in every tier or in one; what is in use is used to its
   * end. @returns chunks below the device, and runs on it
   */
  clear(namespace: string, tier?: Tier): { readonly chunks: number; readonly runs: number } {
    const parts = [namespace, segmentNamespace(namespace)].map((each) => this.#parts.cache.clear(each, tier));
    return {
      chunks: parts.reduce((sum, { chunks }) => sum + chunks, 0),
      runs: parts.reduce((sum, { runs }) => sum + runs, 0),
    };
  }

  /** The nodes right below a place in the tree of a tenant's prompts, the largest first. */
  outline(namespace: string, place: Place): NodeReading[] {
    const { cache, tokenizer, chunkBytes } = this.#parts;
    const nodes = cache.outline(namespace, place).map(({ tokens, ...node }) => ({
      ...node,
      tokens: tokens.length,
      bytes: node.chunks.length * chunkBytes,
      text: tokenizer.decode(tokens.subarray(0, NODE_TEXT_TOKENS)),
    }));
    const size = ({ chunks, chunksBelow }: NodeReading) => chunks.length + chunksBelow;
    return nodes.toSorted((a, b) => size(b) - size(a));
  }

  /** Tokens of a prompt, without documents. @throws RadixkvError as a completion of it would. */
  encode({ prompt, promptField, namespace }: AskedPrompt): Int32Array {
    const asked = { prompt, promptField, tenant: namespace, namespace, cache: DEFAULT_CACHE };
    return this.#parts.prompts.encode(asked).tokens;
  }

  async #lookup(namespace: string, tokens: Int32Array): Promise<LookupReading> {
    const cached = await this.#parts.cache.locateEverywhere(namespace, tokens, 'lossy');
    return { promptTokens: tokens.length, cached };
  }

  #reasonOf(found: {
    readonly cached: number;
    readonly depth: number;
    readonly goesOn: boolean;
  }): DivergenceReason {
    const { cached, depth, goesOn } = found;
    // Nobody finds less than a chunk below the device, so that a few tokens are no reason.
    if (depth - cached >= this.#parts.chunkTokens) return 'not_ready';
    if (goesOn) return depth === 0 ? 'nothing_cached' : 'other_text';
    return depth === 0 ? 'nothing_cached' : 'cached_ends';
  }
}
