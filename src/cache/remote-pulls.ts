/**
 * Brings chunks that only the remote tier has into host memory, where they are found like any other.
 *
 * Of a prompt, all whole chunks that no tier here has are asked for in one round trip; those that are there, from the
 * first one on, are read into reserved slots of host memory, verified, and named by the tree. It ends when they have
 * come, or at the deadline: the time in which they could be computed, within the limits of the options. What did not
 * come is computed. A chunk is fetched once, however many prompts wait for it.
 */
import type { ChunkKey, KvLayout, RemoteStore } from '#storage';
import { slotBytes } from '#storage';
import type { BreakEven } from './break-even.js';
import type { PrefixCache, PrefixLease, ReservedChunk } from './prefix-cache.js';

/** How long a prompt may wait for the remote tier. */
export interface RemoteDeadline {
  /** However fast its tokens could be computed. */
  readonly msMin: number;
  /** However slowly. */
  readonly msMax: number;
}

export interface PullOptions {
  /** Nothing that came through a lossy codec. */
  readonly isExactOnly: boolean;
  /** Most to bring. */
  readonly chunksMax: number;
  /** Nobody waits for it any more. */
  readonly hasEnded: () => boolean;
}

export class RemotePulls {
  readonly #store: RemoteStore;
  readonly #prefixes: PrefixCache;
  readonly #layout: KvLayout;
  readonly #breakEven: BreakEven;
  readonly #deadline: RemoteDeadline;
  readonly #now: () => number;
  readonly #pulling = new Map<ChunkKey, Promise<unknown>>();
  #skippedTokens = 0;

  constructor(parts: {
    readonly store: RemoteStore;
    readonly prefixes: PrefixCache;
    readonly layout: KvLayout;
    /** Of the remote tier. */
    readonly breakEven: BreakEven;
    readonly deadline: RemoteDeadline;
    /** The store's stopwatch. */
    readonly now: () => number;
  }) {
    this.#store = parts.store;
    this.#prefixes = parts.prefixes;
    this.#layout = parts.layout;
    this.#breakEven = parts.breakEven;
    this.#deadline = parts.deadline;
    this.#now = parts.now;
  }

  /** Whether asking is of any use now. */
  get isUsable(): boolean {
    return this.#store.isUsable;
  }

  /** The engine prefilled `tokens` tokens in `ms`: what is compared with. */
  prefilled(tokens: number, ms: number): void {
    this.#breakEven.prefilled(tokens, ms);
  }

  /** Since the start. */
  reading() {
    const { loadBytesPerS } = this.#breakEven.reading();
    /** Prompt tokens that were there and computed all the same, since that was faster or host memory was short. */
    return { skippedTokens: this.#skippedTokens, loadBytesPerS };
  }

  /**
   * Brings what comes after the cached part of a prefix. Never rejects.
   *
   * @returns a lease of what is there now, to be released, and which chunks this brought; undefined when it brought none
   */
  async pull(
    namespace: string,
    tokens: Int32Array,
    options: PullOptions,
  ): Promise<{ readonly lease: PrefixLease; readonly brought: ReadonlySet<ChunkKey> } | undefined> {
    const brought = new Set<ChunkKey>();
    let untilMs: number | undefined;
    for (;;) {
      const lease = this.#lease(namespace, tokens, options);
      const chunks = this.#prefixes.following(namespace, tokens, lease, options.chunksMax - brought.size);
      const [first] = chunks;
      if (first === undefined) return this.#ended(lease, brought);
      untilMs ??= this.#now() + this.#deadlineMs(chunks.length);
      const other = this.#pulling.get(first.key);
      if (other === undefined) {
        const pull = this.#bring(namespace, tokens, { lease, chunks, untilMs, options });
        for (const { key } of chunks) if (!this.#pulling.has(key)) this.#pulling.set(key, pull);
        const came = await pull;
        for (const { key } of chunks) if (this.#pulling.get(key) === pull) this.#pulling.delete(key);
        for (const key of came) brought.add(key);
        this.#prefixes.release(lease);
        return this.#ended(this.#lease(namespace, tokens, options), brought);
      }
      // Its deadline is not far from this one.
      await other;
      this.#prefixes.release(lease);
      const after = this.#lease(namespace, tokens, options);
      const isThere = after.found.length > lease.found.length;
      for (const { key } of after.found.slice(lease.found.length)) brought.add(key);
      this.#prefixes.release(after);
      if (!isThere) return undefined;
    }
  }

  /** How far whole chunks of a prefix reach, in rows, those in the remote tier included. Brings nothing. */
  async reach(
    namespace: string,
    tokens: Int32Array,
    { isExactOnly }: Pick<PullOptions, 'isExactOnly'>,
  ): Promise<number> {
    const lease = this.#lease(namespace, tokens, { isExactOnly });
    const chunks = this.#prefixes.following(namespace, tokens, lease, Number.POSITIVE_INFINITY);
    this.#prefixes.release(lease);
    const untilMs = this.#now() + this.#deadlineMs(chunks.length);
    const keys = chunks.map(({ key }) => key);
    const present = keys.length === 0 ? 0 : await this.#store.present(keys, untilMs);
    return (lease.found.length + present) * this.#layout.chunkTokens;
  }

  #lease(
    namespace: string,
    tokens: Int32Array,
    { isExactOnly }: Pick<PullOptions, 'isExactOnly'>,
  ): PrefixLease {
    return this.#prefixes.acquire(namespace, tokens, 'whole chunks', { isExactOnly });
  }

  #ended(lease: PrefixLease, brought: ReadonlySet<ChunkKey>) {
    if (brought.size > 0) return { lease, brought };
    this.#prefixes.release(lease);
    return undefined;
  }

  #deadlineMs(chunks: number): number {
    const { msMin, msMax } = this.#deadline;
    const prefillMs = this.#breakEven.prefillMs(chunks * this.#layout.chunkTokens) ?? msMax;
    return Math.min(msMax, Math.max(msMin, prefillMs));
  }

  /** @returns the keys of chunks that are in host memory now, and found */
  async #bring(
    namespace: string,
    tokens: Int32Array,
    what: {
      readonly lease: PrefixLease;
      readonly chunks: ReturnType<PrefixCache['following']>;
      readonly untilMs: number;
      readonly options: PullOptions;
    },
  ): Promise<ChunkKey[]> {
    const { lease, chunks, untilMs, options } = what;
    const { chunkBytes, chunkTokens } = this.#layout;
    const present = await this.#store.present(
      chunks.map(({ key }) => key),
      untilMs,
    );
    if (present === 0 || options.hasEnded()) return [];
    if (!this.#breakEven.decide(present * chunkBytes, present * chunkTokens)) {
      this.#skippedTokens += present * chunkTokens;
      return [];
    }
    const first = lease.found.length;
    const wanted = tokens.subarray(0, (first + present) * chunkTokens);
    const reserved = this.#prefixes.reserve(namespace, wanted, lease);
    this.#skippedTokens += (present - reserved.length) * chunkTokens;
    return this.#fill(namespace, wanted, { lease, chunks, reserved, untilMs, options });
  }

  async #fill(
    namespace: string,
    tokens: Int32Array,
    what: {
      readonly lease: PrefixLease;
      readonly chunks: ReturnType<PrefixCache['following']>;
      readonly reserved: readonly ReservedChunk[];
      readonly untilMs: number;
      readonly options: PullOptions;
    },
  ): Promise<ChunkKey[]> {
    const { lease, chunks, reserved, untilMs, options } = what;
    const { chunkTokens } = this.#layout;
    const startedAtMs = this.#now();
    const loaded = await this.#store.load(
      reserved.map(({ slot }, i) => ({ chunk: chunks[i]!, into: slotBytes(this.#prefixes.slab, slot) })),
      untilMs,
    );
    const bytes = loaded.length * this.#layout.chunkBytes;
    if (bytes > 0) this.#breakEven.loaded(bytes, this.#now() - startedAtMs);
    const lossy = loaded.findIndex(({ isExact }) => !isExact);
    const exact = lossy < 0 ? loaded.length : lossy;
    const kept = reserved.slice(0, options.isExactOnly ? exact : loaded.length);
    this.#prefixes.commit(namespace, tokens, {
      lease,
      chunks: kept,
      checksums: loaded.map(({ checksum }) => checksum),
      exactTokens: (lease.found.length + exact) * chunkTokens,
      cause: 'promoted',
    });
    this.#prefixes.abort(reserved.slice(kept.length));
    return kept.map(({ key }) => key);
  }
}
