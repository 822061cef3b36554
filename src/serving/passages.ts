/**
 * The border between the library of documents and what computes their KV.
 *
 * A passage is a document's title and text; its KV is that of a prompt of its own, kept in the tiers under its content,
 * so that equal passages of one namespace are computed once. Knows no ids: those are the library's.
 */
import type { TierTokens } from './completion.js';

export interface Passage {
  readonly title: string | undefined;
  readonly text: string;
}

/** Passages by their ids, for requests that name them. */
export interface PassageFinder {
  find(namespace: string, id: string): Passage | undefined;
}

export interface PassageJob {
  readonly namespace: string;
  readonly passage: Passage;
  /** Keeps the KV from eviction as far as the budget of pins goes. */
  readonly pinned: boolean;
  /** Drops the KV this long after its last use; undefined: it is kept as long as there is room. */
  readonly ttlMs: number | undefined;
  /** Fires when nobody wants it any more. */
  readonly signal: AbortSignal;
  /** Tokens done so far. */
  readonly onProgress: (tokens: number) => void;
}

/** What is kept of a passage now. */
export interface PassageReading {
  readonly tokens: number;
  /** By the fastest tier that has them; what is in none is computed when it is asked for. */
  readonly cached: TierTokens;
}

export interface PassageService {
  /** Tokens of a passage, alone. @throws RadixkvError `context_length_exceeded`. */
  tokens(passage: Passage): number;
  read(namespace: string, passage: Passage): PassageReading;
  /**
   * Computes the KV of a passage when nothing more urgent is to do, and stores it.
   *
   * @throws RadixkvError `engine_failed`, `device_memory_full`, `shutting_down`, or an `AbortError`.
   */
  prepare(job: PassageJob): Promise<void>;
  /** Ends pins and lets the KV go; what a request reads stays until it is done. */
  forget(namespace: string, passage: Passage): void;
}
