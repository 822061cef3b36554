/**
 * Replays conversations on a server or a proxy before several: so many clients at a time take the next request, except
 * that a conversation's turns follow each other.
 */
import { z } from 'zod';
import type { Request } from './conversations.js';

const ANSWER = z.object({
  usage: z.object({
    prompt_tokens: z.number(),
    prompt_tokens_details: z.object({ cached_tokens: z.number() }),
  }),
  timings: z.object({ ttft_ms: z.number() }),
});

export interface Replayed {
  readonly request: Request;
  readonly status: number;
  /** As the proxy names it; empty without a proxy. */
  readonly node: string;
  /** 0 where the request failed. */
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly ttftMs: number;
}

export interface ReplayOptions {
  readonly url: string;
  readonly model: string;
  /** Requests under way at a time, at most. */
  readonly clients: number;
  readonly maxTokens: number;
  /** The API key, of which the namespace follows; absent: the one without a key. */
  readonly apiKey?: string;
  readonly onReplayed?: (replayed: Replayed) => void;
}

/** @returns what came back for each request, in the order in which the answers came. */
export async function replayRequests(
  requests: readonly Request[],
  options: ReplayOptions,
): Promise<Replayed[]> {
  const done: Replayed[] = [];
  const last = new Map<number, Promise<void>>();
  let next = 0;
  const client = async (): Promise<void> => {
    while (next < requests.length) {
      const request = requests[next++]!;
      const before = last.get(request.conversation);
      const answered = (async () => {
        await before;
        const replayed = await send(request, options);
        done.push(replayed);
        options.onReplayed?.(replayed);
      })();
      last.set(request.conversation, answered);
      await answered;
    }
  };
  await Promise.all(Array.from({ length: options.clients }, client));
  return done;
}

/** Share of prompt tokens that were reused. */
export function hitRateOf(replayed: readonly Replayed[]): number {
  const sum = (of: (one: Replayed) => number) => replayed.reduce((total, one) => total + of(one), 0);
  return sum(({ cachedTokens }) => cachedTokens) / sum(({ promptTokens }) => promptTokens);
}

/** Status 0 stands for an answer that broke off, or a connection that was refused. */
async function send(request: Request, { url, model, maxTokens, apiKey }: ReplayOptions): Promise<Replayed> {
  const failed = { request, node: '', promptTokens: 0, cachedTokens: 0, ttftMs: 0 };
  try {
    const response = await fetch(new URL('/v1/chat/completions', url), {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
      },
      body: JSON.stringify({ model, messages: request.messages, max_tokens: maxTokens, temperature: 0 }),
    });
    const node = response.headers.get('x-radixkv-node') ?? '';
    const text = await response.text();
    if (response.status !== 200) return { ...failed, node, status: response.status };
    const { usage, timings } = ANSWER.parse(JSON.parse(text));
    return {
      request,
      status: 200,
      node,
      promptTokens: usage.prompt_tokens,
      cachedTokens: usage.prompt_tokens_details.cached_tokens,
      ttftMs: timings.ttft_ms,
    };
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return { ...failed, status: 0 };
  }
}
