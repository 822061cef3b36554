/**
 * What an operator or a client asks of the cache beside completions: what would hit, why something does not, to forget,
 * to look at the tree. Nothing here counts as a use, and nothing computes.
 */
import type { Place } from '#radix';
import type { KvCache } from '../cache/kv-cache.js';
import type { OutlinedNode } from '../cache/prefix-cache.js';
import { segmentNamespace } from '../cache/segment-namespace.js';
import { DEFAULT_CACHE, type Tier, type TierTokens, tokensOf } from '../serving/completion.js';
import { excerptOf, type Miss, type MissExcerpt, missOf, SHOWN_AFTER_TOKENS } from '../serving/miss.js';
import type { EncodedRequest, PromptEncoder } from '../serving/prompt-encoder.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { type Divergence, type ExcerptTexts, lookalikeOf, messageAt } from './divergence.js';

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
    const { cache, prompts } = this.#parts;
    const tokens = this.encode(asked);
    const reading = await this.#lookup(asked.namespace, tokens);
    // The last token of a prompt is always computed, for its logits.
    if (tokensOf(reading.cached) >= tokens.length - 1) return { ...reading, divergence: undefined };
    const known = tokensOf({ ...reading.cached, remote: 0 });
    const parting = cache.parting(asked.namespace, tokens, SHOWN_AFTER_TOKENS);
    const miss = missOf(tokens, known, { parting, chunkTokens: this.#parts.chunkTokens });
    if (miss === undefined) return { ...reading, divergence: undefined };
    const { token } = miss;
    const { prompt } = asked;
    const message =
      prompt.kind === 'chat'
        ? messageAt(prompt.messages, { tokens, token }, (messages) => prompts.encodeMessages(messages))
        : undefined;
    const texts = this.excerptTexts(miss, excerptOf(tokens, miss, parting.next));
    return { ...reading, divergence: { ...miss, message, ...texts } };
  }

  /** What was kept of a miss, as text. */
  excerptTexts({ reason }: Miss, { common, prompt, cached }: MissExcerpt): ExcerptTexts {
    const [promptText, cachedText] = [this.textOf(prompt), this.textOf(cached)];
    return {
      commonText: this.textOf(common),
      promptText,
      cachedText,
      looksLike: reason === 'other_text' ? lookalikeOf(promptText, cachedText) : undefined,
    };
  }

  textOf(tokens: Int32Array): string {
    return this.#parts.tokenizer.decode(tokens);
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
}
