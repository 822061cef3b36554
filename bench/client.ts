/**
 * A client of a running server: greedy completions, what the cache says of itself, and metrics. Public API only.
 */
import assert from 'node:assert/strict';
import { performance } from 'node:perf_hooks';
import { z } from 'zod';

const ANSWER = z.object({
  choices: z
    .array(
      z.object({
        text: z.string(),
        finish_reason: z.string(),
        logprobs: z.object({ token_logprobs: z.array(z.number()) }).nullable(),
      }),
    )
    .min(1),
  usage: z.object({ prompt_tokens: z.number(), completion_tokens: z.number() }),
  timings: z.object({
    ttft_ms: z.number(),
    cached_tokens: z.object({ device: z.number(), host: z.number(), disk: z.number(), remote: z.number() }),
    computed_tokens: z.number(),
  }),
});

const TIER = z.object({
  cached_tokens: z.number(),
  bytes: z.number().nullable(),
  capacity_bytes: z.number().nullable(),
  chunks: z.number().nullable(),
});

const STATS = z.object({
  requests: z.object({
    completed: z.number(),
    aborted: z.number(),
    failed: z.number(),
    refused: z.number(),
  }),
  prompt_tokens: z.number(),
  cached_tokens: z.number(),
  computed_tokens: z.number(),
  by_tier: z.object({ device: TIER, host: TIER, disk: TIER, remote: TIER }),
  /** Null without a disk tier. */
  disk: z
    .object({
      state: z.string(),
      queued_chunks: z.number(),
      faults: z.record(z.string(), z.number()),
    })
    .nullable(),
  /** Null without a remote tier. */
  remote: z.object({ state: z.string(), writing_paused: z.boolean(), queued_chunks: z.number() }).nullable(),
});

export type CacheStats = z.infer<typeof STATS>;

export interface Question {
  /** A text, or token ids. */
  readonly prompt: string | readonly number[];
  readonly maxTokens: number;
  /** The API key, of which the namespace follows; absent: the one without a key. */
  readonly apiKey?: string;
  readonly signal?: AbortSignal;
}

/** A greedy answer, with the log probability of each of its tokens. */
export interface Reply {
  readonly text: string;
  readonly finishReason: string;
  readonly logprobs: readonly number[];
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly computedTokens: number;
  readonly cached: {
    readonly device: number;
    readonly host: number;
    readonly disk: number;
    readonly remote: number;
  };
  /** From the sending of the request to the end of its answer, as the client sees it. */
  readonly wallMs: number;
}

/** Batches of other answers compute a token in another order of additions, which moves float32 values by this at most. */
const LOGPROB_TOLERANCE = 1e-5;

/**
 * Whether two answers of a float32 model are those of equal K and V. The first token depends on rows of prefill alone,
 * which are the same bits in whatever company they were computed; the others may have been decoded in other batches.
 */
export function isSameAnswer(a: Reply, b: Reply): boolean {
  const isNear = (logprob: number, i: number) =>
    Math.abs(logprob - b.logprobs[i]!) <= (i === 0 ? 0 : LOGPROB_TOLERANCE);
  return a.text === b.text && a.logprobs.length === b.logprobs.length && a.logprobs.every(isNear);
}

/** Asks a server. @throws Error for an answer that is not 200, or when the server goes away. */
export async function ask(url: string, model: string, question: Question): Promise<Reply> {
  const { prompt, maxTokens, apiKey, signal } = question;
  const start = performance.now();
  const response = await fetch(new URL('/v1/completions', url), {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
    },
    body: JSON.stringify({ model, prompt, max_tokens: maxTokens, temperature: 0, logprobs: 0 }),
    ...(signal && { signal }),
  });
  const body = await response.text();
  const wallMs = performance.now() - start;
  if (response.status !== 200) throw new Error(`${response.status}: ${body}`);
  const { choices, usage, timings } = ANSWER.parse(JSON.parse(body));
  const [choice] = choices;
  return {
    text: choice!.text,
    finishReason: choice!.finish_reason,
    logprobs: choice!.logprobs?.token_logprobs ?? [],
    promptTokens: usage.prompt_tokens,
    completionTokens: usage.completion_tokens,
    computedTokens: timings.computed_tokens,
    cached: timings.cached_tokens,
    wallMs,
  };
}

/** What a server says its cache did since it started. */
export async function cacheStats(url: string): Promise<CacheStats> {
  const response = await fetch(new URL('/v1/cache/stats', url));
  assert.equal(response.status, 200);
  return STATS.parse(await response.json());
}
