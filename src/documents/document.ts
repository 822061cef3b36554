/** A document of the library: what is kept of it, and what is told about it. */
import type { TierTokens } from '../serving/completion.js';
import type { Passage } from '../serving/passages.js';

/** Whose it is; ids are unique within a namespace. */
export interface DocumentName {
  readonly namespace: string;
  readonly id: string;
}

/** Why its KV could not be computed. */
export interface DocumentFailure {
  /** Of the table of errors. */
  readonly code: string;
  readonly message: string;
}

/** As it is kept. */
export interface StoredDocument extends DocumentName {
  readonly passage: Passage;
  /** 32 bytes, equal for equal passages. */
  readonly content: Uint8Array;
  readonly createdAtMs: number;
  /** Undefined: it is kept until it is deleted. */
  readonly ttlMs: number | undefined;
  readonly expiresAtMs: number | undefined;
  readonly isPinned: boolean;
  /** Grows with every wish for its KV, over all documents. */
  readonly version: number;
  readonly status: 'queued' | 'ready' | 'failed';
  readonly failure: DocumentFailure | undefined;
}

/** As it is told. */
export interface DocumentReading {
  readonly id: string;
  readonly title: string | undefined;
  readonly status: 'queued' | 'computing' | 'ready' | 'failed';
  /** Of its tokens, for the KV that was last wished for. */
  readonly computedTokens: number;
  readonly tokens: number;
  /** What is kept now; may be less than all even when it is ready, as everything else in the cache. */
  readonly cached: TierTokens;
  readonly createdAtMs: number;
  readonly expiresAtMs: number | undefined;
  readonly isPinned: boolean;
  readonly failure: DocumentFailure | undefined;
}
