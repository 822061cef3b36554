/** Questions about documents, asked of the service without HTTP. */
import {
  type CacheControl,
  type CompletionEvent,
  DEFAULT_CACHE,
  type PromptDocument,
} from '../../src/serving/completion.js';
import type { Service } from '../../src/serving/service.js';
import type { Tokenizer } from '../../src/text/tokenizer.js';
import { benchRequest } from '../request.js';

export interface DocumentQuestion {
  readonly documents: readonly PromptDocument[];
  readonly question: string;
}

/** One token of answer, and what it took. */
export async function askDocuments(
  service: Service,
  { documents, question }: DocumentQuestion,
  cache: Partial<CacheControl>,
): Promise<Extract<CompletionEvent, { type: 'end' }>> {
  const content = `Answer the question from the passages, in a few words.\nQuestion: ${question}`;
  const request = benchRequest({
    prompt: { kind: 'chat', messages: [{ role: 'user', content }], documents },
    promptField: 'messages',
    maxTokens: 1,
    cache: { ...DEFAULT_CACHE, ...cache },
  });
  for await (const event of service.complete(request)) if (event.type === 'end') return event;
  throw new Error('the answer has no end');
}

/** A document of the first `tokensMax` tokens of a text, or all of it. */
export function cutDocument(tokenizer: Tokenizer, text: string, tokensMax: number) {
  const tokens = tokenizer.encodeText(text).subarray(0, tokensMax);
  const cut = Buffer.concat([...tokens].map((token) => tokenizer.tokenBytes(token))).toString();
  const document: PromptDocument = { id: undefined, title: undefined, text: cut };
  return { document, tokens: tokens.length };
}
