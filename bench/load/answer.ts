/** One streamed answer of a server that speaks OpenAI's protocol, as its client sees it. */
import { performance } from 'node:perf_hooks';
import type OpenAI from 'openai';

type Message = OpenAI.ChatCompletionMessageParam;

export interface Answer {
  readonly text: string;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly tokens: number;
  /** `performance.now()` when the request was sent, and whenever text came. */
  readonly sentMs: number;
  readonly textMs: readonly number[];
}

export interface AnswerOptions {
  readonly model: string;
  /** Exactly so many are generated. */
  readonly tokens: number;
  /** Tokens that would end the answer before. */
  readonly endTokens: Iterable<number>;
}

/** Asks for a greedy answer. @throws Error when it is refused, fails or has another length */
export async function streamAnswer(
  client: OpenAI,
  messages: readonly Message[],
  { model, tokens, endTokens }: AnswerOptions,
): Promise<Answer> {
  const sentMs = performance.now();
  const stream = await client.chat.completions.create({
    model,
    messages: [...messages],
    max_tokens: tokens,
    temperature: 0,
    logit_bias: Object.fromEntries([...endTokens].map((token) => [token, -100])),
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = '';
  let usage: OpenAI.CompletionUsage | undefined;
  const textMs: number[] = [];
  for await (const chunk of stream) {
    const delta = chunk.choices[0]?.delta.content ?? '';
    if (delta !== '') textMs.push(performance.now());
    text += delta;
    usage = chunk.usage ?? usage;
  }
  if (usage?.completion_tokens !== tokens) throw new Error(`${usage?.completion_tokens} tokens of ${tokens}`);
  const cachedTokens = usage.prompt_tokens_details?.cached_tokens ?? 0;
  return { text, promptTokens: usage.prompt_tokens, cachedTokens, tokens, sentMs, textMs };
}
