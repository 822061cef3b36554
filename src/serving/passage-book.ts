/**
 * Passages as tokens: how they read in a prompt, which of its tokens they are, and how they are computed ahead of time.
 *
 * Knows text, tokenizer and the decision to blend; no HTTP and no ids.
 */
import type { KvCache } from '../cache/kv-cache.js';
import { RadixkvError } from '../errors.js';
import { encodeDocuments, segmentTokens } from '../text/chat-prompt.js';
import type { ChatTemplate } from '../text/chat-template.js';
import type { DocumentTemplate } from '../text/document-template.js';
import { SEGMENT_TOKENS_MIN } from '../text/locate.js';
import { segmentContext } from '../text/segment-context.js';
import type { Tokenizer } from '../text/tokenizer.js';
import type { BlendPolicy } from './blend-policy.js';
import type { PlacedSegment } from './blending.js';
import type { ChatMessage, CompletionRequest } from './completion.js';
import { PassageTask } from './passage-task.js';
import type { Passage, PassageJob, PassageReading, PassageService } from './passages.js';
import type { Scheduler } from './scheduler.js';
import { type Segment, segmentOf } from './segment.js';
import type { DocumentUse } from './sequence.js';

export interface PassageBookParts {
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate | undefined;
  readonly documentTemplate: DocumentTemplate;
  readonly policy: BlendPolicy;
  readonly cache: KvCache;
  readonly scheduler: Scheduler;
  readonly chunkTokens: number;
  readonly contextTokens: number;
}

const NO_CONTEXT = new Int32Array();

export class PassageBook implements PassageService {
  readonly #parts: PassageBookParts;
  /** What stands before a segment when it is computed. */
  readonly #context: Int32Array;

  constructor(parts: PassageBookParts) {
    this.#parts = parts;
    this.#context = segmentContext(parts, parts);
  }

  /**
   * A prompt with documents, and how they are to be used.
   *
   * @throws RadixkvError `context_length_exceeded`, naming the document that is too long alone; `invalid_value`.
   */
  encode(
    template: ChatTemplate,
    prompt: { readonly messages: readonly ChatMessage[]; readonly passages: readonly Passage[] },
    request: Pick<CompletionRequest, 'namespace' | 'cache'>,
  ): { readonly tokens: Int32Array; readonly use: Omit<DocumentUse, 'ids'> } {
    const { tokenizer, documentTemplate, policy, contextTokens } = this.#parts;
    const parts = { tokenizer, template, documentTemplate };
    const options = { addGenerationPrompt: true };
    const { tokens, segments, located } = encodeDocuments(parts, prompt.messages, prompt.passages, options);
    for (const [i, { length }] of segments.entries())
      requireContext(length, contextTokens, `documents[${i}]`);
    const decision = policy.decide(request.cache);
    if ('refused' in decision) return { tokens, use: { order: undefined, outcome: decision.refused } };
    if (located.length === 0) return { tokens, use: { order: undefined, outcome: 'no_documents' } };
    const placed = located.map(({ index, start, end, offset }): PlacedSegment => {
      const segment = this.#segment(request.namespace, segments[index]!);
      return { index, segment, start, end, row: segment.head + offset };
    });
    return { tokens, use: { order: { ...decision, segments: placed }, outcome: 'blended' } };
  }

  tokens(passage: Passage): number {
    const { contextTokens } = this.#parts;
    const { length } = segmentTokens(this.#parts, passage);
    requireContext(length, contextTokens, 'text');
    return length;
  }

  read(namespace: string, passage: Passage): PassageReading {
    const {
      tokens,
      rows,
      head,
      namespace: kept,
    } = this.#segment(namespace, segmentTokens(this.#parts, passage));
    const cached = this.#parts.cache.peekTiers(kept, tokens.subarray(0, rows));
    // The rows of the context, the first ones, are no tokens of the passage.
    const host = Math.max(0, cached.host - head);
    const all = Math.max(0, cached.host + cached.disk - head);
    return { tokens: rows - head, cached: { ...cached, host, disk: all - host } };
  }

  async prepare(job: PassageJob): Promise<void> {
    const own = segmentTokens(this.#parts, job.passage);
    if (own.length < SEGMENT_TOKENS_MIN) return;
    const task = new PassageTask(job, this.#segment(job.namespace, own));
    this.#parts.scheduler.submitPassage(task);
    await task.done;
  }

  forget(namespace: string, passage: Passage): void {
    const { namespace: kept, tokens } = this.#segment(namespace, segmentTokens(this.#parts, passage));
    this.#parts.cache.forget(kept, tokens);
  }

  #segment(namespace: string, own: Int32Array): Segment {
    const { chunkTokens, contextTokens } = this.#parts;
    const hasRoom = this.#context.length + own.length <= contextTokens;
    return segmentOf(namespace, own, { context: hasRoom ? this.#context : NO_CONTEXT, chunkTokens });
  }
}

function requireContext(tokens: number, contextTokens: number, param: string): void {
  if (tokens < contextTokens) return;
  throw new RadixkvError(
    'context_length_exceeded',
    `the document has ${tokens} tokens, and the context of ${contextTokens} must hold a question and an answer too`,
    { param },
  );
}
