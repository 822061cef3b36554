/** Requests that benchmarks make of a service in their own process. */
import { type CompletionRequest, DEFAULT_CACHE, GREEDY } from '../src/serving/completion.js';

/** Greedy, of nobody, and never given up. */
export function benchRequest(
  asked: Pick<CompletionRequest, 'prompt' | 'promptField' | 'maxTokens'> & Partial<CompletionRequest>,
): CompletionRequest {
  return {
    id: 'bench',
    tenant: '',
    namespace: '',
    n: 1,
    stop: [],
    priority: 0,
    deadlineMs: undefined,
    cache: DEFAULT_CACHE,
    sampling: GREEDY,
    signal: new AbortController().signal,
    ...asked,
  };
}
