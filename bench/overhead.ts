/**
 * What HTTP and scheduling add to each streamed token: the time between tokens as a client sees it, less the
 * engine's own. Uses a running server and its public API only.
 */
import { performance } from 'node:perf_hooks';

export interface OverheadOptions {
  /** Base address, e.g. `http://127.0.0.1:8080`. */
  readonly url: string;
  readonly model: string;
  readonly tokens: number;
  /** Milliseconds, monotonic; a port for tests. */
  readonly now?: () => number;
}

export interface StreamOverhead {
  readonly completionTokens: number;
  /** From the first piece of text to the last, per token after the first. */
  readonly wallMsPerToken: number;
  /** The engine's decode time per token after the first, from the response's `timings`. */
  readonly engineMsPerToken: number;
  readonly overheadMsPerToken: number;
}

interface Chunk {
  readonly choices?: readonly { readonly delta?: { readonly content?: string } }[];
  readonly usage?: { readonly completion_tokens: number } | null;
  readonly timings?: { readonly decode_ms: number };
}

/**
 * Streams one greedy completion.
 * @throws Error when the server refuses, or its last chunk has no `usage` or `timings`
 */
export async function streamOverhead(options: OverheadOptions): Promise<StreamOverhead> {
  const { url, model, tokens, now = () => performance.now() } = options;
  const response = await fetch(new URL('/v1/chat/completions', url), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model,
      messages: [{ role: 'user', content: 'Count from one to a thousand, in words.' }],
      max_tokens: tokens,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
  if (!response.ok || !response.body) throw new Error(`${response.status}: ${await response.text()}`);
  let first: number | undefined;
  let last = 0;
  let usage: Chunk['usage'];
  let timings: Chunk['timings'];
  for await (const data of eventData(response.body)) {
    if (data === '[DONE]') break;
    const chunk: Chunk = JSON.parse(data);
    if (chunk.choices?.some(({ delta }) => delta?.content)) {
      last = now();
      first ??= last;
    }
    usage = chunk.usage ?? usage;
    timings = chunk.timings ?? timings;
  }
  if (first === undefined || !usage || !timings) throw new Error('the stream had no text, usage or timings');
  const steps = usage.completion_tokens - 1;
  if (steps < 1) throw new Error('the answer is too short to measure');
  const wallMsPerToken = (last - first) / steps;
  const engineMsPerToken = timings.decode_ms / steps;
  return {
    completionTokens: usage.completion_tokens,
    wallMsPerToken,
    engineMsPerToken,
    overheadMsPerToken: wallMsPerToken - engineMsPerToken,
  };
}

/** The payloads of `data:` lines of a server-sent event stream. */
async function* eventData(body: AsyncIterable<Uint8Array>): AsyncGenerator<string, void, void> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const bytes of body) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.startsWith('data: ')) yield line.slice('data: '.length).trimEnd();
  }
}
