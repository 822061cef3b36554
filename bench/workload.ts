/**
 * Traffic in small, for the tiny model: questions about documents, some asked far more often than others, and
 * conversations that grow turn by turn and end. Prompts are byte tokens; the same seed gives the same prompts.
 */
import { type Random, seededRandom } from '../src/engine/random.js';

/** Every document and conversation begins with one of these many system prompts. */
const SYSTEM_PROMPTS = 4;
const SYSTEM_TOKENS = 64;
const DOCUMENT_TOKENS = { min: 200, max: 1200 };
const QUESTION_TOKENS = { min: 4, max: 40 };
const TURN_TOKENS = { min: 20, max: 120 };
const CONVERSATION_TOKENS_MAX = 1400;
const DOCUMENT_SHARE = 0.6;

export class Workload {
  readonly random: Random;
  readonly #systemPrompts: readonly (readonly number[])[];
  readonly #documents: readonly (readonly number[])[];
  readonly #conversations: number[][];

  constructor(options: {
    readonly seed: number;
    readonly documents: number;
    /** That go on at the same time. */
    readonly conversations: number;
  }) {
    this.random = seededRandom(options.seed);
    this.#systemPrompts = Array.from({ length: SYSTEM_PROMPTS }, () => this.#tokens(SYSTEM_TOKENS));
    this.#documents = Array.from({ length: options.documents }, () => [
      ...this.#systemPrompt(),
      ...this.#tokens(this.#between(DOCUMENT_TOKENS)),
    ]);
    // Of all ages at first, as later on.
    this.#conversations = Array.from({ length: options.conversations }, () => [
      ...this.#systemPrompt(),
      ...this.#tokens(Math.floor(this.random() * CONVERSATION_TOKENS_MAX)),
    ]);
  }

  /** The next prompt. */
  next(): readonly number[] {
    if (this.random() < DOCUMENT_SHARE) return this.#question();
    const index = Math.floor(this.random() * this.#conversations.length);
    const conversation = this.#conversations[index]!;
    conversation.push(...this.#tokens(this.#between(TURN_TOKENS)));
    if (conversation.length > CONVERSATION_TOKENS_MAX) this.#conversations[index] = this.#systemPrompt();
    return [...conversation];
  }

  /** Document k of n with a probability that falls as 1 / (k + 1). */
  #question(): readonly number[] {
    const rank = Math.floor((this.#documents.length + 1) ** this.random()) - 1;
    const document = this.#documents[Math.min(rank, this.#documents.length - 1)]!;
    return [...document, ...this.#tokens(this.#between(QUESTION_TOKENS))];
  }

  #systemPrompt(): number[] {
    return [...this.#systemPrompts[Math.floor(this.random() * SYSTEM_PROMPTS)]!];
  }

  #between({ min, max }: { readonly min: number; readonly max: number }): number {
    return min + Math.floor(this.random() * (max - min + 1));
  }

  #tokens(count: number): number[] {
    return Array.from({ length: count }, () => Math.floor(this.random() * 256));
  }
}
