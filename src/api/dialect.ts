/**
 * What tells the completion endpoints apart: how a body is read, whose request it is, and what the JSON of an answer or
 * an error looks like.
 *
 * The route (completion-route.ts) drives all of them through this interface and knows nobody's shapes.
 */
import type { z } from 'zod';
import type {
  CompletionEvent,
  CompletionRequest,
  FinishReason,
  ModelCard,
  TokenLogprob,
} from '../serving/completion.js';
import type { Endpoint } from '../serving/statistics.js';
import type { Operation } from './operation.js';
import type { StreamEvent } from './sse.js';

/** A validated request body. */
export interface Parsed {
  readonly model: string;
  readonly stream: boolean;
  /** Whether a stream ends with a chunk that carries `usage`; of no matter to dialects that always say it. */
  readonly includeUsage: boolean;
  /** Sets the request's KV apart from that of its tenant's other requests. */
  readonly cacheSalt: string | undefined;
  readonly work: Omit<CompletionRequest, 'id' | 'tenant' | 'namespace' | 'chargeTokens' | 'signal'>;
}

/** What all parts of one answer have in common. */
export interface Head {
  readonly id: string;
  /** Seconds since the epoch. */
  readonly created: number;
  readonly model: ModelCard;
}

export type End = Extract<CompletionEvent, { type: 'end' }>;

/** One finished choice. `logprobs` is `undefined` when the request did not ask for them. */
export interface FinishedChoice {
  readonly index: number;
  readonly text: string;
  readonly logprobs: readonly TokenLogprob[] | undefined;
  readonly reason: FinishReason;
  readonly stopString: string | undefined;
}

/** A whole answer. */
export interface Finished {
  readonly choices: readonly FinishedChoice[];
  readonly end: End;
}

/** What a stream sends for each event of the service, maybe later than it came. It remembers what it has sent. */
export type StreamRenderer = (event: CompletionEvent) => readonly StreamEvent[];

export interface Dialect {
  readonly endpoint: Endpoint;
  readonly path: string;
  readonly idPrefix: string;
  /** What names and explains the operation. */
  readonly operation: Pick<Operation, 'id' | 'summary' | 'errorShape'>;
  /** A body that works, but for its model. */
  readonly example: object;
  readonly body: z.ZodType<Parsed>;
  /** What `whole` returns, and the data of what a stream sends. */
  readonly answers: { readonly whole: z.ZodType; readonly event: z.ZodType };
  whole(head: Head, parsed: Parsed, finished: Finished): object;
  /** Of one answer. The renderer's last events are those for the end event: at least one. */
  createStream(head: Head, parsed: Parsed): StreamRenderer;
}
