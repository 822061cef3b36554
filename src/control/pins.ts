/**
 * Prefixes that are to stay cached: named pins, each of the whole chunks of a prompt, within the share of the tiers that
 * pins may take. With a file they are known again after a restart, as far as their chunks are on the disk.
 */
import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import { DiskError } from '#storage';
import type { KvCache } from '../cache/kv-cache.js';
import { RadixkvError } from '../errors.js';
import { type TierTokens, tokensOf } from '../serving/completion.js';
import type { PinFile, StoredPin } from './pin-file.js';

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

/** Whose a pin is, and in which part of the cache. */
export interface PinPlace {
  readonly owner: string;
  readonly namespace: string;
}

export class Pins {
  readonly #cache: KvCache;
  readonly #chunkTokens: number;
  readonly #clock: { now(): number };
  readonly #file: PinFile | undefined;
  readonly #logger: Logger | undefined;
  readonly #pins = new Map<string, StoredPin>();

  constructor(options: {
    readonly cache: KvCache;
    readonly chunkTokens: number;
    readonly clock: { now(): number };
    /** Absent: they end with the process. */
    readonly file?: PinFile | undefined;
    readonly logger?: Logger | undefined;
  }) {
    this.#file = options.file;
    this.#logger = options.logger;
    this.#cache = options.cache;
    this.#chunkTokens = options.chunkTokens;
    this.#clock = options.clock;
  }

  /**
   * Takes up the pins of an earlier process, once the cache knows what is on the disk. Those that ran out meanwhile, whose
   * chunks are gone, or for which pins have no room any more are dropped.
   */
  restore(): void {
    for (const pin of this.#guarded(() => this.#file?.all()) ?? []) {
      const { id, namespace, tokens } = pin;
      // The catalogue has the time to which a pin was renewed.
      const isHeld = this.#cache.isPinned(namespace, tokens);
      const outcome = isHeld
        ? 'pinned'
        : this.#isOver(pin)
          ? 'expired'
          : this.#cache.pin(namespace, tokens, pin);
      if (outcome === 'pinned') this.#pins.set(id, pin);
      else this.#drop(id);
      if (outcome === 'over budget' || outcome === 'missing')
        this.#logger?.warn({ pin: id, reason: outcome }, 'a pin could not be restored');
    }
  }

  /**
   * Pins the whole chunks of a prompt, which are to be cached already.
   *
   * @throws RadixkvError `pins_full`, `not_cached`, `invalid_value` for a prompt shorter than a chunk.
   */
  create({ owner, namespace }: PinPlace, prompt: Int32Array, order: PinOrder): PinReading {
    const tokens = this.wholeChunks(prompt);
    if (this.list(owner).length >= PINS_MAX) {
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
    const pin: StoredPin = { id, owner, namespace, tokens, createdAtMs: this.#clock.now(), ...order };
    this.#pins.set(id, pin);
    this.#guarded(() => this.#file?.add(pin));
    return this.#readingOf(pin);
  }

  /** What can be pinned of a prompt. @throws RadixkvError `invalid_value` when it is shorter than a chunk */
  wholeChunks(prompt: Int32Array): Int32Array {
    const tokens = prompt.slice(0, prompt.length - (prompt.length % this.#chunkTokens));
    if (tokens.length > 0) return tokens;
    throw new RadixkvError(
      'invalid_value',
      `the prompt has ${prompt.length} tokens; what is pinned are whole chunks of ${this.#chunkTokens}`,
    );
  }

  /** Those of a tenant, the oldest first, without those that ran out. */
  list(owner: string): PinReading[] {
    return this.#of(owner).map((pin) => this.#readingOf(pin));
  }

  get(owner: string, id: string): PinReading | undefined {
    const pin = this.#of(owner).find((each) => each.id === id);
    return pin && this.#readingOf(pin);
  }

  /**
   * @param options.isForgotten its chunks go too, as far as no other pin holds them
   * @returns false when the tenant has no such pin
   */
  delete(owner: string, id: string, { isForgotten = false } = {}): boolean {
    const pin = this.#pins.get(id);
    if (pin?.owner !== owner) return false;
    this.#drop(id);
    const { namespace, tokens } = pin;
    this.#cache.unpin(namespace, tokens);
    // Others may hold a part of it.
    for (const other of this.#of(owner)) {
      if (other.namespace === namespace) this.#cache.pin(namespace, other.tokens, other);
    }
    if (isForgotten) this.#cache.clear(namespace, { prefix: tokens });
    return true;
  }

  close(): void {
    this.#file?.close();
  }

  #of(owner: string): StoredPin[] {
    const own = [...this.#pins.values()].filter((pin) => pin.owner === owner);
    for (const pin of own) if (this.#isOver(pin)) this.#drop(pin.id);
    return own.filter(({ id }) => this.#pins.has(id));
  }

  /** Whether a pin ran out: nobody used its prefix for as long as it lasts. */
  #isOver({ namespace, tokens, createdAtMs, ttlMs }: StoredPin): boolean {
    if (ttlMs === undefined || this.#clock.now() < createdAtMs + ttlMs) return false;
    return !this.#cache.isPinned(namespace, tokens);
  }

  #drop(id: string): void {
    this.#pins.delete(id);
    this.#guarded(() => this.#file?.remove(id));
  }

  /** A pin holds also when it can't be written down. */
  #guarded<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      this.#logger?.error({ err: error }, 'the file of pins can not be used');
      return undefined;
    }
  }

  #readingOf({ id, namespace, tokens, createdAtMs, ttlMs, priority }: StoredPin): PinReading {
    const cached = this.#cache.peekTiers(namespace, tokens);
    return { id, createdAtMs, ttlMs, priority, tokens: tokens.length, cached };
  }
}

/** Whether all of what was pinned is there. */
export function isWhole({ tokens, cached }: PinReading): boolean {
  return tokensOf(cached) === tokens;
}
