/** `usage` and `timings` of an answer. Zero is printed; what can't be known is null. */
import { type Timings, tokensOf, type Usage } from '../serving/completion.js';

export function usageJson({ promptTokens, completionTokens, cachedTokens }: Usage) {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: tokensOf(cachedTokens) },
    completion_tokens_details: { reasoning_tokens: 0 },
  };
}

/** Milliseconds to the microsecond. */
function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}

/**
 * Not part of OpenAI's format. `tokens_per_second` is the rate of decode over all `choices`, whose first tokens come
 * from prefill; null when nothing was decoded.
 */
export function timingsJson(usage: Usage, timings: Timings, choices: number) {
  const decodedTokens = usage.completionTokens - choices;
  return {
    queue_ms: rounded(timings.queueMs),
    load_ms: rounded(timings.loadMs),
    prefill_ms: rounded(timings.prefillMs),
    decode_ms: rounded(timings.decodeMs),
    ttft_ms: rounded(timings.ttftMs),
    cached_tokens: usage.cachedTokens,
    computed_tokens: usage.computedTokens,
    tokens_per_second:
      decodedTokens > 0 && timings.decodeMs > 0 ? rounded((decodedTokens * 1000) / timings.decodeMs) : null,
  };
}
