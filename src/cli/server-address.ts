/** A running server that a command speaks to: where it answers, with which key, and what went wrong. */
import { z } from 'zod';
import { errnoOf, messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';

export const DEFAULT_URL = 'http://127.0.0.1:8080';

export interface ServerAddress {
  /** Where the server answers, also below a path. */
  readonly url: string;
  /** Sent as a bearer; absent or empty: none is. */
  readonly key: string | undefined;
}

/** @throws RadixkvError `invalid_value` for what is no address */
export function requireAddress({ url }: ServerAddress): void {
  if (!/^https?:\/\//.test(url) || !URL.canParse(url))
    throw new RadixkvError('invalid_value', `--url must be an address like ${DEFAULT_URL}, got "${url}"`);
}

export function endpoint({ url }: ServerAddress, path: string): URL {
  return new URL(path, url.endsWith('/') ? url : `${url}/`);
}

/** The headers that say who asks. */
export function credentials({ key }: ServerAddress): Record<string, string> {
  return key ? { authorization: `Bearer ${key}` } : {};
}

const problem = z.object({ error: z.object({ code: z.string(), message: z.string() }) });

/** What an answer that is an error says. */
export function problemOf(status: number, body: unknown): string {
  return problem.safeParse(body).data?.error.message ?? `status ${status}`;
}

/** `fetch` only says that it failed; why is below. */
export function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause === undefined ? messageOf(error) : (errnoOf(cause) ?? messageOf(cause));
}
