/** `usage` and `timings` of an answer. Zero is printed; what can't be known is null. */
import type { z } from 'zod';
import { type BlendTimings, type Timings, tokensOf, type Usage } from '../serving/completion.js';
import type { timings as timingsAnswer, usage as usageAnswer } from './openai-answers.js';

export function usageJson({
  promptTokens,
  completionTokens,
  cachedTokens,
  blendedTokens,
}: Usage): z.output<typeof usageAnswer> {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: {
      cached_tokens: tokensOf(cachedTokens),
      blended_tokens: tokensOf(blendedTokens),
    },
    completion_tokens_details: { reasoning_tokens: 0 },
  };
}

/** Milliseconds to the microsecond. */
export function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}

function blendJson({ prepareMs, loadMs, rotateMs, selectMs, recomputeMs }: BlendTimings) {
  return {
    prepare_ms: rounded(prepareMs),
    load_ms: rounded(loadMs),
    rotate_ms: rounded(rotateMs),
    select_ms: rounded(selectMs),
    recompute_ms: rounded(recomputeMs),
  };
}

/**
 * Not part of OpenAI's format. `tokens_per_second` is the rate of decode over all `choices`, whose first tokens come
 * from prefill; null when nothing was decoded. `blend` is there only when something was blended.
 */
export function timingsJson(usage: Usage, timings: Timings, choices: number): z.output<typeof timingsAnswer> {
  const decodedTokens = usage.completionTokens - choices;
  return {
    queue_ms: rounded(timings.queueMs),
    load_ms: rounded(timings.loadMs),
    prefill_ms: rounded(timings.prefillMs),
    decode_ms: rounded(timings.decodeMs),
    ttft_ms: rounded(timings.ttftMs),
    cached_tokens: usage.cachedTokens,
    blended_tokens: usage.blendedTokens,
    computed_tokens: usage.computedTokens,
    tokens_per_second:
      decodedTokens > 0 && timings.decodeMs > 0 ? rounded((decodedTokens * 1000) / timings.decodeMs) : null,
    ...(timings.blend && { blend: blendJson(timings.blend) }),
  };
}
