/**
 * What an operator or a client asks of the cache beside completions: what would hit, why something does not, to forget,
 * to look at the tree. Nothing here counts as a use, and nothing computes.
 */
import type { Place } from '#radix';
import { FOREIGN_OWNER, type OwnerHolding, type TierName } from '#storage';
import type { Cleared, KvCache } from '../cache/kv-cache.js';
import { bothOf, ownerOf } from '../cache/namespace-owner.js';
import type { OutlinedNode } from '../cache/prefix-cache.js';
import { withoutSegment } from '../cache/segment-namespace.js';
import { SHARED_NAMESPACE } from '../cache/shared-namespace.js';
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
  /** Forgets what other models left on the disk. @returns chunks */
  readonly clearForeign: () => number;
  /** What each owner takes of each tier below the device. */
  readonly ownersBelow: () => Readonly<Record<TierName, ReadonlyMap<string, OwnerHolding>>>;
}

/** What an owner's KV takes below the device. */
export interface OwnerReading {
  readonly owner: string;
  readonly host: OwnerHolding;
  readonly disk: OwnerHolding;
}

const NO_HOLDING: OwnerHolding = { bytes: 0, chunks: 0, quotaBytes: undefined };

/** What to forget of a part of the cache. */
export interface ClearOrder {
  /** What it begins with; default: anything. */
  readonly prompt?: AskedPrompt | undefined;
  /** The only tier to forget it in. */
  readonly tier?: Tier | undefined;
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

/** Chunks of other models and of public texts are no tenant's. */
function isTenant(owner: string): boolean {
  return owner !== FOREIGN_OWNER && owner !== SHARED_NAMESPACE;
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
   * Forgets what is cached in parts of the cache, passages too: all of it, or what begins with a prompt, of chats with
   * its messages; in every tier or in one. What is in use is used to its end; what is pinned stays.
   * @throws RadixkvError as a completion of the prompt would
   */
  clear(parts: readonly string[], { prompt, tier }: ClearOrder = {}): Cleared {
    const prefix = prompt && this.encodePrefix(prompt);
    const places = prefix === undefined ? parts.flatMap(bothOf) : parts;
    const cleared = places.map((each) => this.#parts.cache.clear(each, { tier, prefix }));
    const sum = (count: keyof Cleared) => cleared.reduce((total, each) => total + each[count], 0);
    return {
      chunks: sum('chunks'),
      inUse: sum('inUse'),
      pinned: sum('pinned'),
      shared: sum('shared'),
      runs: sum('runs'),
      runsInUse: sum('runsInUse'),
    };
  }

  /** Forgets what other models left on the disk. @returns chunks */
  clearForeign(): number {
    return this.#parts.clearForeign();
  }

  /** What owners take, those that take most first; `of` is the only one to tell of. */
  holdings(of?: string): OwnerReading[] {
    const { host, disk } = this.#parts.ownersBelow();
    const owners = of === undefined ? new Set([...host.keys(), ...disk.keys()]) : [of];
    return Array.from(owners, (owner) => {
      return { owner, host: host.get(owner) ?? NO_HOLDING, disk: disk.get(owner) ?? NO_HOLDING };
    })
      .filter(({ owner }) => isTenant(owner))
      .toSorted((a, b) => b.host.bytes + b.disk.bytes - a.host.bytes - a.disk.bytes);
  }

  /** Whose KV is cached. */
  owners(): string[] {
    return [...new Set(this.#parts.cache.namespaces().map(ownerOf))].filter(isTenant);
  }

  /** The parts of the cache that an owner's salts set apart, and the one without. */
  partsOf(owner: string): string[] {
    const found = this.#parts.cache.namespaces().filter((each) => ownerOf(each) === owner);
    return [...new Set(found.map(withoutSegment))];
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

  /**
   * Tokens of the beginning of prompts; of a chat, its messages as they stand in any that goes on from them.
   * @throws RadixkvError as a completion of it would
   */
  encodePrefix(asked: AskedPrompt): Int32Array {
    const tokens = this.encode(asked);
    return asked.prompt.kind === 'chat' ? this.#parts.prompts.encodeMessages(asked.prompt.messages) : tokens;
  }

  async #lookup(namespace: string, tokens: Int32Array): Promise<LookupReading> {
    const cached = await this.#parts.cache.locateEverywhere(namespace, tokens, 'lossy');
    return { promptTokens: tokens.length, cached };
  }
}
