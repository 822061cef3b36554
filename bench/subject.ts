/**
 * What a benchmark measures: an engine with a model, reduced to the three things a user waits for.
 *
 * Implementations time themselves, so that nothing but the engine's own work is inside. Prompts are token ids.
 */

/**
 * Where the KV of the cached prefix is when the clock starts. A subject refuses what it does not have. On `disk` means
 * after a restart: kept in a file by a process or context that is gone; the system may still have the file in memory
 * (its page cache), or was told to drop it.
 */
export type CacheState = 'cold' | 'device' | 'host' | 'disk' | 'disk, page cache dropped';

export interface Subject {
  /** Name and version, as the table shows it. */
  readonly name: string;
  /** False for cache states that this subject has no tier for. */
  supports(from: CacheState): boolean;
  /** Computes a prompt of which nothing is cached, up to the scores of the next token. Milliseconds. */
  prefill(tokens: readonly number[]): Promise<number>;
  /** After `context`, decodes `steps` tokens greedily, ignoring the end of text. Milliseconds of each. */
  decode(context: readonly number[], steps: number): Promise<number[]>;
  /**
   * From a request of `[...cached, ...fresh]` to its first token, milliseconds. Unless `cold`, an earlier request
   * that began with `cached` and went on otherwise has been served; preparing that is not timed.
   */
  ttft(cached: readonly number[], fresh: readonly number[], from: CacheState): Promise<number>;
  close(): Promise<void>;
}
