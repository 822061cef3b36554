/**
 * The tokenizer: text → tokens and tokens → bytes, read from `tokenizer.json` and `tokenizer_config.json`.
 *
 * Invariants: `encodeText` never yields a control token, whatever the text says; the same text always gives the same
 * tokens (nothing depends on time or on earlier calls). Knows no chat template. Synchronous after creation; about
 * 100 ms and tens of megabytes for a vocabulary of 50,000 tokens.
 */
import { z } from 'zod';
import { RadixkvError } from '../errors.js';
import { AddedTokens } from './added-tokens.js';
import { BytePairEncoder } from './bpe.js';
import { StreamingDetokenizer } from './detokenizer.js';
import { createWordSplitter, type WordSplitter } from './text-steps.js';
import { byteCharacters, createPieceBytes } from './token-bytes.js';
import {
  flattenSteps,
  GenerationConfig,
  readModelJson,
  TokenizerConfig,
  TokenizerJson,
} from './tokenizer-json.js';

export interface Tokenizer {
  /** Highest token id plus one. The model's logits may be wider (padding). */
  readonly vocab: number;
  /** Token that begins a sequence, if the vocabulary has one. */
  readonly bos: number | undefined;
  /** Sequences of this model begin with `bos`. The encode methods don't add it. */
  readonly addBos: boolean;
  /** Tokens after which the model has finished. */
  readonly endTokens: ReadonlySet<number>;
  /** Tokens that steer the model and are no text. */
  readonly controlTokens: ReadonlySet<number>;
  /** Their spellings. */
  readonly controlSpellings: readonly string[];
  /** Name of a special token → spelling, for templates: `bos_token`, `eos_token`, `unk_token`, `pad_token`. */
  readonly names: Readonly<Record<string, string>>;
  /** Tokens of plain text; control-token spellings in it are ordinary characters. Added tokens that are not control tokens are matched. */
  encodeText(text: string): Int32Array;
  /** Tokens of a template's output: control-token spellings become control tokens. `marker` is removed from the text between them. */
  encodeRendered(rendered: string, marker?: string): Int32Array;
  /** The token's own text, U+FFFD where it is a part of a character; a control token's spelling. */
  tokenText(token: number): string;
  /** The token's bytes; a control token's spelling. Empty for ids without a token. */
  tokenBytes(token: number): Uint8Array;
  /** Text of the tokens; control tokens are left out, invalid UTF-8 becomes U+FFFD. */
  decode(tokens: Iterable<number>): string;
}

/** Spellings that end a turn in known chat formats, for vocabularies that name only one end token. */
const END_SPELLINGS = [
  '<|im_end|>',
  '<|eot_id|>',
  '<|eom_id|>',
  '<|end_of_text|>',
  '<|endoftext|>',
  '<|end|>',
  '<end_of_turn>',
];

/**
 * Reads the tokenizer of a model directory: `tokenizer.json`, and where present `tokenizer_config.json` and
 * `generation_config.json` (end tokens).
 *
 * @throws RadixkvError `corrupt_model` for missing or malformed files, `unsupported_model` for kinds of tokenizer
 * whose ids can't be reproduced.
 */
export async function createTokenizer(directory: string): Promise<Tokenizer> {
  const json = await readModelJson(directory, 'tokenizer.json', TokenizerJson);
  if (json === undefined)
    throw new RadixkvError('corrupt_model', `tokenizer.json is missing in ${directory}`);
  const config = await readModelJson(directory, 'tokenizer_config.json', TokenizerConfig);
  const generation = await readModelJson(directory, 'generation_config.json', GenerationConfig);
  return tokenizerFromJson(json, config ?? {}, [generation?.eos_token_id ?? []].flat());
}

/** The same from parsed files. `endTokens` are added to those that the configuration names. */
export function tokenizerFromJson(
  json: TokenizerJson,
  config: TokenizerConfig,
  endTokens: readonly number[] = [],
): Tokenizer {
  if (json.model.type !== 'BPE') {
    throw new RadixkvError('unsupported_model', `tokenizer model is not supported: ${json.model.type}`);
  }
  return new BpeTokenizer(json, config, endTokens);
}

class BpeTokenizer implements Tokenizer {
  readonly vocab: number;
  readonly bos: number | undefined;
  readonly addBos: boolean;
  readonly endTokens: ReadonlySet<number>;
  readonly controlTokens: ReadonlySet<number>;
  readonly controlSpellings: readonly string[];
  readonly names: Readonly<Record<string, string>>;
  readonly #bytes: readonly (Uint8Array | undefined)[];
  readonly #textTokens: AddedTokens;
  readonly #allTokens: AddedTokens;
  readonly #words: WordSplitter;
  readonly #encoder: BytePairEncoder;

  constructor(json: TokenizerJson, config: TokenizerConfig, endTokens: readonly number[]) {
    const vocab = new Map(Object.entries(json.model.vocab));
    const ids = new Map(vocab);
    for (const { content, id } of json.added_tokens) ids.set(content, id);
    const control = json.added_tokens.filter((token) => token.special);
    this.vocab = 1 + [...ids.values()].reduce((highest, id) => Math.max(highest, id), -1);
    this.controlTokens = new Set(control.map((token) => token.id));
    this.controlSpellings = control.map((token) => token.content);
    this.names = specialNames(config);
    const idOf = (spelling: string | null | undefined): number | undefined => ids.get(spelling ?? '');
    this.bos = idOf(this.names.bos_token);
    this.addBos =
      this.bos !== undefined && (config.add_bos_token ?? postProcessorAdds(json, this.names.bos_token!));
    const named = [config.eos_token, config.eot_token, config.eom_token].map(idOf);
    const known = control.filter((token) => END_SPELLINGS.includes(token.content)).map((token) => token.id);
    this.endTokens = new Set([...named, ...known, ...endTokens].filter((id) => id !== undefined));

    this.#bytes = tokenBytes(json, ids, this.vocab);
    this.#textTokens = new AddedTokens(json.added_tokens.filter((token) => !token.special));
    this.#allTokens = new AddedTokens(json.added_tokens);
    this.#words = createWordSplitter(json.normalizer, json.pre_tokenizer);
    this.#encoder = new BytePairEncoder({
      vocab,
      merges: json.model.merges.map((merge) => (typeof merge === 'string' ? splitMerge(merge) : merge)),
      mergeRanks: json.model.merge_ranks,
      spell: this.#words.byteLevel ? byteCharacters : (word) => word,
      ignoreMerges: json.model.ignore_merges === true,
      byteTokens: json.model.byte_fallback === true ? byteFallback(vocab) : undefined,
      unknown: idOf(json.model.unk_token),
    });
  }

  encodeText(text: string): Int32Array {
    return this.#encode(this.#textTokens, text, '');
  }

  encodeRendered(rendered: string, marker = ''): Int32Array {
    return this.#encode(this.#allTokens, rendered, marker);
  }

  tokenText(token: number): string {
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(this.tokenBytes(token));
  }

  tokenBytes(token: number): Uint8Array {
    return this.#bytes[token] ?? new Uint8Array(0);
  }

  decode(tokens: Iterable<number>): string {
    const detokenizer = new StreamingDetokenizer(this);
    let text = '';
    for (const token of tokens) text += detokenizer.push(token);
    return text + detokenizer.flush();
  }

  #encode(added: AddedTokens, text: string, marker: string): Int32Array {
    const tokens: number[] = [];
    added.split(text).forEach((section, index) => {
      if (section.token !== undefined) {
        tokens.push(section.token);
        return;
      }
      const plain = marker === '' ? section.text : section.text.replaceAll(marker, '');
      for (const word of this.#words.split(plain, index)) this.#encoder.encode(word, tokens);
    });
    return Int32Array.from(tokens);
  }
}

function specialNames(config: TokenizerConfig): Record<string, string> {
  const names: Record<string, string> = {};
  for (const key of ['bos_token', 'eos_token', 'unk_token', 'pad_token'] as const) {
    const name = config[key];
    if (typeof name === 'string') names[key] = name;
  }
  return names;
}

const TemplateProcessing = z.object({
  type: z.literal('TemplateProcessing'),
  single: z.array(z.object({ SpecialToken: z.object({ id: z.string() }).optional() })),
});

/** Whether the post-processor puts the token before a single sequence. */
function postProcessorAdds(json: TokenizerJson, token: string): boolean {
  return flattenSteps(json.post_processor, 'processors').some(
    (step) => TemplateProcessing.safeParse(step).data?.single[0]?.SpecialToken?.id === token,
  );
}

function tokenBytes(
  json: TokenizerJson,
  ids: ReadonlyMap<string, number>,
  vocab: number,
): (Uint8Array | undefined)[] {
  const pieceBytes = createPieceBytes(json.decoder);
  const bytes = Array.from<Uint8Array | undefined>({ length: vocab });
  for (const [piece, id] of ids) bytes[id] = pieceBytes(piece);
  for (const { content, id } of json.added_tokens) bytes[id] = new TextEncoder().encode(content);
  return bytes;
}

/** A merge as one string: the left piece ends at the first space. */
function splitMerge(merge: string): readonly [string, string] {
  const space = merge.indexOf(' ', 1);
  return [merge.slice(0, space), merge.slice(space + 1)];
}

function byteFallback(vocab: ReadonlyMap<string, number>): Int32Array {
  return Int32Array.from({ length: 256 }, (_, byte) => {
    const token = vocab.get(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
    if (token === undefined)
      throw new RadixkvError('corrupt_model', `tokenizer has no token for byte ${byte}`);
    return token;
  });
}
