/** One request: where it goes, whose it is, how long it may take, and when it is tried again. */
import { errorOf } from './api-error.js';

export interface RadixkvClientOptions {
  /** Where the server answers, also below a path: `http://127.0.0.1:8080`. */
  readonly baseUrl: string;
  /** Sent as a bearer. */
  readonly apiKey?: string;
  /** How long an answer may take, each time it is asked for. Default: 60,000. Streams have no end. */
  readonly timeoutMs?: number;
  /** How often a request is tried again that was answered with 429 or 503. Default: 2. */
  readonly retriesMax?: number;
  /** How long to wait before that at most, whatever the server says. Default: 30,000. */
  readonly retryWaitMaxMs?: number;
  /** Default: the global one. */
  readonly fetch?: typeof globalThis.fetch;
}

/** Of one call. */
export interface CallOptions {
  readonly signal?: AbortSignal;
  /** In place of the client's. */
  readonly timeoutMs?: number;
}

export interface Call extends CallOptions {
  readonly method?: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Below the base, without a slash in front. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as it is, in lines of JSON. */
  readonly lines?: string;
  /** Sent as it is. */
  readonly archive?: Blob;
}

const TIMEOUT_MS = 60_000;
const RETRIES_MAX = 2;
const RETRY_WAIT_MAX_MS = 30_000;
/** Doubled with each retry, where the server does not say how long to wait. */
const RETRY_WAIT_MS = 500;

/** Rejects with the signal's reason when it fires first. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

function urlOf(base: string, { path, query = {} }: Call): URL {
  const url = new URL(path, base);
  for (const [name, value] of Object.entries(query))
    if (value !== undefined) url.searchParams.set(name, String(value));
  return url;
}

function contentOf({ body, lines, archive }: Call): { type: string; data: string | Blob } | undefined {
  if (archive !== undefined) return { type: 'application/vnd.radixkv.archive', data: archive };
  if (lines !== undefined) return { type: 'application/x-ndjson', data: lines };
  return body === undefined ? undefined : { type: 'application/json', data: JSON.stringify(body) };
}

export class Transport {
  readonly #options: RadixkvClientOptions;
  readonly #base: string;

  constructor(options: RadixkvClientOptions) {
    this.#options = options;
    this.#base = options.baseUrl.endsWith('/') ? options.baseUrl : `${options.baseUrl}/`;
  }

  /** The answer in JSON. @throws RadixkvApiError; what `fetch` throws; `TimeoutError`, or the reason of the signal. */
  async json<Answer>(call: Call): Promise<Answer> {
    const { retriesMax = RETRIES_MAX } = this.#options;
    for (let retry = 0; ; retry++) {
      const timeout = AbortSignal.timeout(call.timeoutMs ?? this.#options.timeoutMs ?? TIMEOUT_MS);
      const signal = call.signal === undefined ? timeout : AbortSignal.any([timeout, call.signal]);
      const response = await this.open({ ...call, signal });
      if (response.ok) return JSON.parse(await response.text());
      await this.#refused(response, retry < retriesMax ? retry : undefined, call.signal);
    }
  }

  /** A response that is no error, and whose body was not read. Asked for once, and as long as it takes. */
  async opened(call: Call): Promise<Response> {
    const response = await this.open(call);
    if (!response.ok) throw await errorOf(response);
    return response;
  }

  /** A response that may be an error, and whose body was not read. */
  open(call: Call): Promise<Response> {
    const { apiKey, fetch = globalThis.fetch } = this.#options;
    const content = contentOf(call);
    return fetch(urlOf(this.#base, call), {
      method: call.method ?? 'GET',
      headers: {
        ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
        ...(content && { 'content-type': content.type }),
      },
      ...(content && { body: content.data }),
      ...(call.signal && { signal: call.signal }),
    });
  }

  /** Waits, where it may be tried again. @throws RadixkvApiError where not */
  async #refused(
    response: Response,
    retry: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const mayRetry =
      (response.status === 429 || response.status === 503) &&
      response.headers.get('x-should-retry') !== 'false';
    const error = await errorOf(response);
    if (retry === undefined || !mayRetry) throw error;
    const waitMs = error.retryAfterS === undefined ? RETRY_WAIT_MS * 2 ** retry : error.retryAfterS * 1000;
    await sleep(Math.min(waitMs, this.#options.retryWaitMaxMs ?? RETRY_WAIT_MAX_MS), signal);
  }
}
