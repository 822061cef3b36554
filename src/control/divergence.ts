/**
 * Why a prompt misses what the cache has: where it leaves the nearest cached sequence, and what stands there.
 *
 * The usual causes are texts that change where they should not: a time at the beginning of a system prompt, a list of
 * tools in another order, an empty think block that a template writes around older answers.
 */

import { commonPrefix } from '../cache/device-runs.js';
import type { ChatMessage } from '../serving/completion.js';
import type { Miss } from '../serving/miss.js';

/** What changed, by the look of it. */
export type Lookalike = 'time_or_number' | 'tools' | 'think_block';

export interface ExcerptTexts {
  /** What both have before it, the prompt from it on, and the cached sequence from it on. */
  readonly commonText: string;
  readonly promptText: string;
  readonly cachedText: string;
  readonly looksLike: Lookalike | undefined;
}

export interface Divergence extends Miss, ExcerptTexts {
  /** The message in which that token lies; undefined in a prompt without messages, or in what a template writes itself. */
  readonly message: { readonly index: number; readonly role: string } | undefined;
}

const LOOKALIKES: readonly (readonly [Lookalike, RegExp])[] = [
  ['think_block', /<\/?think/],
  ['tools', /"(?:name|parameters|arguments|function|tools)"/],
  ['time_or_number', /^\S{0,12}\d/],
];

/** Of texts that begin where they differ. */
export function lookalikeOf(promptText: string, cachedText: string): Lookalike | undefined {
  const found = LOOKALIKES.find(([, pattern]) => pattern.test(promptText) || pattern.test(cachedText));
  return found?.[0];
}

/**
 * The message in which a token of a rendered chat lies: the first one without which it would not be there.
 *
 * @param encode tokens of some first messages, as they stand in the whole; it may throw where a template refuses them
 */
export function messageAt(
  messages: readonly ChatMessage[],
  position: { readonly tokens: Int32Array; readonly token: number },
  encode: (messages: readonly ChatMessage[]) => Int32Array,
): Divergence['message'] {
  const { tokens, token } = position;
  let [low, high] = [0, messages.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    let reach: number;
    try {
      reach = commonPrefix(encode(messages.slice(0, middle + 1)), tokens);
    } catch {
      return undefined;
    }
    if (reach > token) high = middle;
    else low = middle + 1;
  }
  const message = messages[low];
  return message === undefined ? undefined : { index: low, role: message.role };
}
