/** What the API accepts at most, so that no single body can hold the event loop or the memory. */

export interface Limits {
  /** Of the request body, after decompression. */
  readonly bodyBytesMax: number;
  /** Lists, objects and further items of the JSON body. A prompt of token ids needs one for each. */
  readonly jsonValuesMax: number;
  /** Fields of all objects of the JSON body. */
  readonly jsonFieldsMax: number;
  /** Choices (`n`) of one request. */
  readonly choicesMax: number;
  readonly messagesMax: number;
  /** Text parts of one message. */
  readonly partsMax: number;
  readonly stopStringsMax: number;
  /** Of each: a text that almost ends with one is compared with all of it, token after token. */
  readonly stopCharactersMax: number;
  readonly logitBiasMax: number;
  /** `cache_salt`. */
  readonly cacheSaltCharactersMax: number;
  /** `prompt_cache_key`; OpenAI's own limit. */
  readonly promptCacheKeyCharactersMax: number;
  /** Documents of one prompt. */
  readonly documentsMax: number;
  /** Of the text of a document, in UTF-16 code units, as everything that is counted in characters. */
  readonly documentCharactersMax: number;
  readonly titleCharactersMax: number;
  /** Time to live of a stored document. */
  readonly ttlSecondsMax: number;
  /** Of a request that wants its first token in time. */
  readonly deadlineMsMax: number;
  /** Prompts of one job that computes them ahead of time. */
  readonly warmPromptsMax: number;
  /** Readers of cache events at the same time. */
  readonly eventStreamsMax: number;
}

export const DEFAULT_LIMITS: Limits = {
  bodyBytesMax: 8 * 1024 * 1024,
  jsonValuesMax: 262_144,
  jsonFieldsMax: 32_768,
  choicesMax: 16,
  messagesMax: 4096,
  partsMax: 4096,
  stopStringsMax: 16,
  stopCharactersMax: 1024,
  logitBiasMax: 1024,
  cacheSaltCharactersMax: 1024,
  promptCacheKeyCharactersMax: 64,
  documentsMax: 256,
  documentCharactersMax: 1_000_000,
  titleCharactersMax: 1024,
  ttlSecondsMax: 10 * 365 * 24 * 3600,
  deadlineMsMax: 3_600_000,
  warmPromptsMax: 256,
  eventStreamsMax: 32,
};
