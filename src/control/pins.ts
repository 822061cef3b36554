/**
 * Prefixes that are to stay cached: named pins, each of the whole chunks of a prompt, within the share of the tiers that
 * pins may take. They are kept in memory: after a restart what was pinned is cached as anything else is.
 */
import { randomUUID } from 'node:crypto';
import type { KvCache } from '../cache/kv-cache.js';
import { RadixkvError } from '../errors.js';
import { type TierTokens, tokensOf } from '../serving/completion.js';

/** Of one tenant. */
export const PINS_MAX = 1000;

export interface PinOrder {
  /** Renewed by each use; undefined: until it is deleted. */
  readonly ttlMs: number | undefined;
  /** 0 to 100: among what is not pinned any more, lower ones leave first. */
  readonly priority: number | undefined;
}

export interface PinReading extends PinOrder {
  readonly id: string;
  readonly createdAtMs: number;
  /** Of whole chunks. */
  readonly tokens: number;
  /** Those that are there now: fewer where a pin ran out, or its chunks were deleted or damaged. */
  readonly cached: TierTokens;
}

interface Pin extends PinOrder {
  readonly id: string;
  readonly namespace: string;
  readonly tokens: Int32Array;
  readonly createdAtMs: number;
}

export class Pins {
  readonly #cache: KvCache;
  readonly #chunkTokens: number;
  readonly #clock: { now(): number };
  readonly #pins = new Map<string, Pin>();

  constructor(options: {
    readonly cache: KvCache;
    readonly chunkTokens: number;
    readonly clock: { now(): number };
  }) {
    this.#cache = options.cache;
    this.#chunkTokens = options.chunkTokens;
    this.#clock = options.clock;
  }

  /**
   * Pins the whole chunks of a prompt, which are to be cached already.
   *
   * @throws RadixkvError `pins_full`, `not_cached`, `invalid_value` for a prompt shorter than a chunk.
   */
  create(namespace: string, prompt: Int32Array, order: PinOrder): PinReading {
    const tokens = prompt.slice(0, prompt.length - (prompt.length % this.#chunkTokens));
    if (tokens.length === 0) {
      throw new RadixkvError(
        'invalid_value',
        `the prompt has ${prompt.length} tokens; what is pinned are whole chunks of ${this.#chunkTokens}`,
      );
    }
    if (this.list(namespace).length >= PINS_MAX) {
      throw new RadixkvError('pins_full', `there are ${PINS_MAX} pins already; delete some`);
    }
    const outcome = this.#cache.pin(namespace, tokens, order);
    if (outcome === 'missing') {
      throw new RadixkvError(
        'not_cached',
        'the prompt is not cached below the device: there was no room for it',
      );
    }
    if (outcome === 'over budget') {
      throw new RadixkvError('pins_full', 'pins take all of their share of a tier; delete some');
    }
    const id = `pin_${randomUUID().replaceAll('-', '')}`;
    const pin: Pin = { id, namespace, tokens, createdAtMs: this.#clock.now(), ...order };
    this.#pins.set(id, pin);
    return this.#readingOf(pin);
  }

  /** Those of a tenant, the oldest first. */
  list(namespace: string): PinReading[] {
    return this.#of(namespace).map((pin) => this.#readingOf(pin));
  }

  get(namespace: string, id: string): PinReading | undefined {
    const pin = this.#pins.get(id);
    return pin?.namespace === namespace ? this.#readingOf(pin) : undefined;
  }

  /** @returns false when the tenant has no such pin */
  delete(namespace: string, id: string): boolean {
    const pin = this.#pins.get(id);
    if (pin?.namespace !== namespace) return false;
    this.#pins.delete(id);
    this.#cache.unpin(namespace, pin.tokens);
    // Others may hold a part of it.
    for (const other of this.#of(namespace)) this.#cache.pin(namespace, other.tokens, other);
    return true;
  }

  #of(namespace: string): Pin[] {
    return [...this.#pins.values()].filter((pin) => pin.namespace === namespace);
  }

  #readingOf({ namespace, tokens, ...pin }: Pin): PinReading {
    return { ...pin, tokens: tokens.length, cached: this.#cache.peekTiers(namespace, tokens) };
  }
}

/** Whether all of what was pinned is there. */
export function isWhole({ tokens, cached }: PinReading): boolean {
  return tokensOf(cached) === tokens;
}
