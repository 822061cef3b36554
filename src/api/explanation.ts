/** `explanation` of an answer: where each token of its prompt came from. Not part of OpenAI's format. */
import type { z } from 'zod';
import type { BlendExplanation } from '../serving/completion.js';
import type { explanation } from './openai-answers.js';

export function explanationJson({
  outcome,
  selector,
  ratio,
  prefixTokens,
  documents,
  recomputed,
}: BlendExplanation): z.output<typeof explanation> {
  return {
    outcome,
    selector: selector ?? null,
    recompute_ratio: ratio ?? null,
    prefix_tokens: prefixTokens,
    documents: documents.map(({ index, id, start, end, source }) => ({
      index,
      id: id ?? null,
      start,
      end,
      source,
    })),
    recomputed: [...recomputed],
  };
}
