/**
 * What tells the two completion endpoints apart: how a body is read, and what the JSON of an answer looks like.
 *
 * The route (completion-route.ts) drives both through this interface and knows neither's shapes.
 */
import type { CompletionRequest, FinishReason, TokenLogprob } from '../serving/completion.js';
import type { Endpoint } from '../serving/statistics.js';

/** A validated request body. */
export interface Parsed {
  readonly model: string;
  readonly stream: boolean;
  /** Whether a stream ends with a chunk that carries `usage`. */
  readonly includeUsage: boolean;
  readonly work: Omit<CompletionRequest, 'id' | 'namespace' | 'chargeTokens' | 'signal'>;
}

/** One finished choice. `logprobs` is `undefined` when the request did not ask for them. */
interface Choice {
  readonly index: number;
  readonly text: string;
  readonly logprobs: readonly TokenLogprob[] | undefined;
  readonly reason: FinishReason;
}

/** Renders the choices of one stream; it may remember what it has sent. */
interface ChunkRenderer {
  /** What a choice opens with, before its first text; `undefined` for nothing. */
  opening(index: number): object | undefined;
  delta(index: number, text: string, logprobs: readonly TokenLogprob[] | undefined): object;
  finish(index: number, reason: FinishReason): object;
}

export interface Dialect {
  readonly endpoint: Endpoint;
  readonly idPrefix: string;
  readonly replyObject: string;
  readonly chunkObject: string;
  /** @throws RadixkvError `invalid_value` or `unsupported_field`, with the field as `param`. */
  parse(body: unknown): Parsed;
  choice(choice: Choice): object;
  createChunkRenderer(): ChunkRenderer;
}
