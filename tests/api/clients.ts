/** The clients that the conformance suite runs with, behind one interface: each in its own words, nothing added. */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import Anthropic from '@anthropic-ai/sdk';
import { APICallError, generateText, streamText } from 'ai';
import OpenAI, { APIError, APIUserAbortError } from 'openai';

export interface Ask {
  readonly endpoint: 'chat' | 'text';
  readonly prompt: string;
  readonly maxTokens: number;
  readonly stop?: string;
  readonly model?: string;
  readonly temperature?: number;
  /** Chat only. */
  readonly topLogprobs?: number;
}

interface Logprob {
  readonly token: string;
  readonly logprob: number;
  readonly top_logprobs: readonly { readonly token: string; readonly logprob: number }[];
}

interface Answer {
  readonly text: string;
  readonly finishReason: string | null;
  readonly promptTokens: number | undefined;
  readonly completionTokens: number | undefined;
  readonly cachedTokens: number | undefined;
  /** As far as the client passes them on. */
  readonly logprobs: readonly Logprob[];
}

/** An error answer as the client's own class of error reports it. */
export interface Failure {
  readonly status: number | undefined;
  readonly code: unknown;
  readonly param: unknown;
  readonly retryable: boolean;
  readonly className: string;
}

export interface ConformanceClient {
  readonly name: string;
  /** Those that it speaks to. */
  readonly endpoints: readonly Ask['endpoint'][];
  whole(ask: Ask): Promise<Answer>;
  /** `onDelta` sees each piece of text as it comes. */
  streamed(ask: Ask, signal?: AbortSignal, onDelta?: (text: string) => void): Promise<Answer>;
  /** The failure that a thrown value stands for, or `undefined` if it is no error answer. */
  failure(error: unknown): Failure | undefined;
  isAbort(error: unknown): boolean;
}

function isAbortError(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}

type OpenAIUsage = OpenAI.CompletionUsage | null | undefined;

function fromOpenAI(
  text: string,
  finishReason: string | null,
  usage: OpenAIUsage,
  logprobs: readonly Logprob[],
): Answer {
  return {
    text,
    finishReason,
    promptTokens: usage?.prompt_tokens,
    completionTokens: usage?.completion_tokens,
    cachedTokens: usage?.prompt_tokens_details?.cached_tokens,
    logprobs,
  };
}

/** The official client of OpenAI. */
export function openaiClient(baseUrl: string, served: string): ConformanceClient {
  const client = new OpenAI({ baseURL: `${baseUrl}/v1`, apiKey: 'conformance', maxRetries: 0 });
  const shared = ({ model = served, maxTokens, stop, temperature = 0 }: Ask) => ({
    model,
    max_tokens: maxTokens,
    temperature,
    ...(stop === undefined ? {} : { stop }),
  });
  const chat = (ask: Ask) => ({
    ...shared(ask),
    messages: [{ role: 'user' as const, content: ask.prompt }],
    ...(ask.topLogprobs === undefined ? {} : { logprobs: true, top_logprobs: ask.topLogprobs }),
  });
  const text = (ask: Ask) => ({ ...shared(ask), prompt: ask.prompt });
  return {
    name: 'openai',
    endpoints: ['chat', 'text'],
    whole: async (ask) => {
      if (ask.endpoint === 'chat') {
        const { choices, usage } = await client.chat.completions.create(chat(ask));
        const { message, finish_reason, logprobs } = choices[0]!;
        return fromOpenAI(message.content ?? '', finish_reason, usage, logprobs?.content ?? []);
      }
      const { choices, usage } = await client.completions.create(text(ask));
      return fromOpenAI(choices[0]!.text, choices[0]!.finish_reason, usage, []);
    },
    streamed: async (ask, signal, onDelta) => {
      const options = signal === undefined ? {} : { signal };
      const inStream = { stream: true, stream_options: { include_usage: true } } as const;
      let joined = '';
      let finishReason: string | null = null;
      let usage: OpenAIUsage;
      const logprobs: Logprob[] = [];
      const add = (piece: string) => {
        joined += piece;
        if (piece !== '') onDelta?.(piece);
      };
      if (ask.endpoint === 'chat') {
        for await (const chunk of await client.chat.completions.create(
          { ...chat(ask), ...inStream },
          options,
        )) {
          const choice = chunk.choices[0];
          add(choice?.delta.content ?? '');
          logprobs.push(...(choice?.logprobs?.content ?? []));
          finishReason = choice?.finish_reason ?? finishReason;
          usage = chunk.usage;
        }
      } else {
        for await (const chunk of await client.completions.create({ ...text(ask), ...inStream }, options)) {
          add(chunk.choices[0]?.text ?? '');
          finishReason = chunk.choices[0]?.finish_reason ?? finishReason;
          usage = chunk.usage;
        }
      }
      // The client ends a stream that was aborted as if it were complete.
      signal?.throwIfAborted();
      return fromOpenAI(joined, finishReason, usage, logprobs);
    },
    failure: (error) => {
      if (!(error instanceof APIError)) return undefined;
      const { status, code, param } = error;
      const retryable = status === 429 || status >= 500;
      return { status, code, param, retryable, className: error.constructor.name };
    },
    isAbort: (error) => error instanceof APIUserAbortError || isAbortError(error),
  };
}

interface AiUsage {
  readonly inputTokens: number | undefined;
  readonly outputTokens: number | undefined;
  readonly inputTokenDetails: { readonly cacheReadTokens: number | undefined };
  // biome-ignore lint/suspicious/noExplicitAny: the server's own usage
  readonly raw?: any;
}

// biome-ignore lint/suspicious/noExplicitAny: the body as the provider hands it on
function logprobsOf(body: any): Logprob[] {
  return body?.choices?.[0]?.logprobs?.content ?? [];
}

function fromAi(text: string, finishReason: string, usage: AiUsage, logprobs: readonly Logprob[]): Answer {
  return {
    text,
    finishReason,
    promptTokens: usage.inputTokens,
    completionTokens: usage.outputTokens,
    // The provider reads it for chat only.
    cachedTokens: usage.inputTokenDetails.cacheReadTokens ?? usage.raw?.prompt_tokens_details.cached_tokens,
    logprobs,
  };
}

/** Vercel's AI SDK with its provider for OpenAI-compatible servers. */
export function aiSdkClient(baseUrl: string, served: string): ConformanceClient {
  const provider = createOpenAICompatible({
    name: 'radixkv',
    baseURL: `${baseUrl}/v1`,
    apiKey: 'conformance',
    includeUsage: true,
  });
  const settings = ({
    endpoint,
    prompt,
    maxTokens,
    stop,
    model = served,
    topLogprobs,
    temperature = 0,
  }: Ask) => ({
    model: endpoint === 'chat' ? provider.chatModel(model) : provider.completionModel(model),
    messages: [{ role: 'user' as const, content: prompt }],
    maxOutputTokens: maxTokens,
    temperature,
    maxRetries: 0,
    ...(stop === undefined ? {} : { stopSequences: [stop] }),
    ...(topLogprobs === undefined
      ? {}
      : { providerOptions: { radixkv: { logprobs: true, top_logprobs: topLogprobs } } }),
  });
  return {
    name: 'ai',
    endpoints: ['chat', 'text'],
    whole: async (ask) => {
      const { text, finishReason, usage, response } = await generateText(settings(ask));
      return fromAi(text, finishReason, usage, logprobsOf(response.body));
    },
    streamed: async (ask, signal, onDelta) => {
      const failures: unknown[] = [];
      const result = streamText({
        ...settings(ask),
        includeRawChunks: true,
        onError: ({ error }) => {
          failures.push(error);
        },
        ...(signal === undefined ? {} : { abortSignal: signal }),
      });
      let joined = '';
      const logprobs: Logprob[] = [];
      for await (const part of result.fullStream) {
        if (part.type === 'raw') logprobs.push(...logprobsOf(part.rawValue));
        if (part.type !== 'text-delta') continue;
        joined += part.text;
        onDelta?.(part.text);
      }
      signal?.throwIfAborted();
      if (failures.length > 0) throw failures[0];
      return fromAi(joined, await result.finishReason, await result.usage, logprobs);
    },
    failure: (error) => {
      if (!APICallError.isInstance(error)) return undefined;
      const { error: body } = JSON.parse(error.responseBody!);
      return {
        status: error.statusCode,
        code: body.code,
        param: body.param,
        retryable: error.isRetryable,
        className: error.name,
      };
    },
    isAbort: isAbortError,
  };
}

function fromAnthropic({ content, stop_reason, usage }: Anthropic.Message): Answer {
  const { input_tokens, cache_creation_input_tokens, cache_read_input_tokens, output_tokens } = usage;
  return {
    text: content.map((block) => (block.type === 'text' ? block.text : '')).join(''),
    finishReason: stop_reason === 'max_tokens' ? 'length' : 'stop',
    promptTokens: input_tokens + cache_creation_input_tokens! + cache_read_input_tokens!,
    completionTokens: output_tokens,
    cachedTokens: cache_read_input_tokens!,
    logprobs: [],
  };
}

/** The official client of Anthropic. */
export function anthropicClient(baseUrl: string, served: string): ConformanceClient {
  const client = new Anthropic({ baseURL: baseUrl, apiKey: 'conformance', authToken: null, maxRetries: 0 });
  const message = ({ prompt, maxTokens, stop, model = served, temperature = 0 }: Ask) => ({
    model,
    max_tokens: maxTokens,
    temperature,
    messages: [{ role: 'user' as const, content: prompt }],
    ...(stop === undefined ? {} : { stop_sequences: [stop] }),
  });
  return {
    name: 'anthropic',
    endpoints: ['chat'],
    whole: async (ask) => fromAnthropic(await client.messages.create(message(ask))),
    streamed: async (ask, signal, onDelta) => {
      const stream = client.messages.stream(message(ask), signal === undefined ? {} : { signal });
      stream.on('text', (piece) => onDelta?.(piece));
      return fromAnthropic(await stream.finalMessage());
    },
    failure: (error) => {
      if (!(error instanceof Anthropic.APIError)) return undefined;
      const { status, errorCode: code } = error;
      const { param } = Object(error.details);
      const retryable = status === 429 || (status ?? 500) >= 500;
      return { status, code, param, retryable, className: error.constructor.name };
    },
    isAbort: (error) => error instanceof Anthropic.APIUserAbortError,
  };
}
