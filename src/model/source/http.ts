/**
 * GET with the manners a model hub needs: redirects by hand, the token for one origin only, typed failures, retries.
 *
 * The token never leaves the endpoint's origin: a hub redirects large files to a storage host, which must not see it.
 * Knows no hub paths and no files.
 */
import { errnoOf, messageOf } from '../../errno.js';
import { RadixkvError } from '../../errors.js';
import type { Clock } from '../clock.js';

export interface HttpOptions {
  /** Origin that the token belongs to. */
  readonly endpoint: URL;
  readonly token?: string | undefined;
  readonly clock: Clock;
}

export interface GetOptions {
  /** What is fetched, for error messages: `model org/name`. */
  readonly subject: string;
  readonly headers?: Record<string, string>;
  /** Gives up on the answer's headers after this long. */
  readonly timeoutMs?: number;
}

/** A failure that may pass: no connection, a broken one, 429 or 5xx. */
export class TransientError extends Error {
  readonly retryAfterMs: number | undefined;

  constructor(
    message: string,
    details: { readonly retryAfterMs?: number | undefined; readonly cause?: unknown } = {},
  ) {
    super(message, { cause: details.cause });
    this.retryAfterMs = details.retryAfterMs;
  }
}

const REDIRECTS_MAX = 5;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 30_000;

/**
 * One GET without retries. Answers 2xx and 416; the caller must consume or cancel the body.
 *
 * @throws TransientError, or RadixkvError `model_not_found` (404) and `download_failed` (401, 403, other statuses).
 */
export async function get(http: HttpOptions, start: URL, options: GetOptions): Promise<Response> {
  let url = start;
  for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects += 1) {
    const response = await send(http, url, options);
    const location = response.headers.get('location');
    if (response.status < 300 || response.status === 416) return response;
    await response.body?.cancel();
    if (response.status >= 400 || location === null) throw failure(response, url, options.subject);
    url = new URL(location, url);
  }
  throw new RadixkvError('download_failed', `${options.subject}: more than ${REDIRECTS_MAX} redirects`);
}

async function send(http: HttpOptions, url: URL, options: GetOptions): Promise<Response> {
  // No compression: resumed byte ranges and the progress count bytes of the file itself.
  const headers: Record<string, string> = { 'accept-encoding': 'identity', ...options.headers };
  if (http.token !== undefined && url.origin === http.endpoint.origin)
    headers.authorization = `Bearer ${http.token}`;
  const abort = new AbortController();
  const timer =
    options.timeoutMs === undefined ? undefined : setTimeout(() => abort.abort(), options.timeoutMs);
  try {
    return await fetch(url, { headers, redirect: 'manual', signal: abort.signal });
  } catch (cause) {
    const reason = abort.signal.aborted ? `no answer within ${options.timeoutMs} ms` : networkReason(cause);
    throw new TransientError(`${url.host}: ${reason}`, { cause });
  } finally {
    clearTimeout(timer);
  }
}

/** The part of a fetch error that says something: its cause's code or message. */
export function networkReason(error: unknown): string {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  return messageOf(cause) || (errnoOf(cause) ?? 'connection failed');
}

function failure(response: Response, url: URL, subject: string): Error {
  const { status } = response;
  if (status === 429 || status >= 500) {
    const seconds = /^\d+$/.exec(response.headers.get('retry-after') ?? '')?.[0];
    return new TransientError(`${url.host} answered ${status}`, {
      retryAfterMs: seconds === undefined ? undefined : Number(seconds) * 1000,
    });
  }
  const advice: Record<number, string> = {
    401: 'not found, or it needs a token: check the name, and set HF_TOKEN for a private or gated model',
    403: 'access denied: accept the terms of the model on its page, and set HF_TOKEN to a token that may read it',
    404: 'not found: check the name and the revision',
  };
  const message = `${subject}: ${advice[status] ?? `${url.host} answered ${status}`}`;
  return new RadixkvError(status === 404 ? 'model_not_found' : 'download_failed', message);
}

/**
 * Runs `attempt` until it succeeds or fails for good, waiting twice as long after each failure in a row.
 *
 * `attempt` reports with `advanced()` that it got further than before, which starts the count anew.
 *
 * @throws RadixkvError `download_failed` after `attemptsMax` failures in a row; other errors as they come.
 */
export async function withRetries<T>(
  options: { readonly clock: Clock; readonly subject: string; readonly attemptsMax: number },
  attempt: (advanced: () => void) => Promise<T>,
): Promise<T> {
  let failures = 0;
  for (;;) {
    try {
      return await attempt(() => {
        failures = 0;
      });
    } catch (error) {
      if (!(error instanceof TransientError)) throw error;
      failures += 1;
      if (failures >= options.attemptsMax) {
        throw new RadixkvError('download_failed', `${options.subject}: ${error.message}`, { cause: error });
      }
      await options.clock.sleep(
        Math.min(BACKOFF_MAX_MS, error.retryAfterMs ?? BACKOFF_FIRST_MS * 2 ** (failures - 1)),
      );
    }
  }
}
