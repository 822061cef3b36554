/**
 * Converts the vocabulary inside a GGUF file to a `tokenizer.json` and `tokenizer_config.json` pair, so that serving
 * reads one format. Token ids equal llama.cpp's (golden vectors for every kind listed here); other kinds are refused
 * by name. Follows llama.cpp where it differs from the model's original tokenizer: no Unicode normalisation.
 */
import { z } from 'zod';
import { RadixkvError } from '../errors.js';
import { GPT2_WORDS, isolate } from './text-steps.js';
import type { AddedToken, Step, TokenizerConfig, TokenizerJson } from './tokenizer-json.js';

/** `tokenizer.ggml.token_type`. */
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;

const CONTRACTIONS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
const modernWords = (digits: string): string =>
  `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

/** `tokenizer.ggml.pre` → patterns, each applied to what the one before left. */
const BYTE_LEVEL_PATTERNS: ReadonlyMap<string, readonly string[]> = new Map([
  ['smollm', ['\\p{N}', GPT2_WORDS]],
  ['llama-bpe', [modernWords('\\p{N}{1,3}')]],
  ['qwen2', [modernWords('\\p{N}')]],
  ['gpt-2', [GPT2_WORDS]],
  ['default', ['[\\p{P}\\$\\+<=>\\^~\\|]+', GPT2_WORDS, '\\p{N}+', '[0-9][0-9][0-9]']],
]);

/** GGUF metadata by key, as read from the file. Arrays may be typed arrays; numbers may be bigint. */
export type GgufMetadata = Readonly<Record<string, unknown>>;

/**
 * @throws RadixkvError `unsupported_model` for other kinds of vocabulary, `corrupt_model` for missing fields.
 */
export function tokenizerFromGguf(metadata: GgufMetadata): {
  tokenizerJson: TokenizerJson;
  tokenizerConfig: TokenizerConfig;
} {
  const model = text(metadata, 'tokenizer.ggml.model');
  if (model !== 'gpt2' && model !== 'llama') {
    throw new RadixkvError('unsupported_model', `GGUF tokenizer model is not supported: ${model}`);
  }
  const tokens = list(metadata, z.string(), 'tokenizer.ggml.tokens');
  const types = list(metadata, z.coerce.number(), 'tokenizer.ggml.token_type');
  const shared = { added_tokens: addedTokens(tokens, types), post_processor: null };
  const pre = text(metadata, 'tokenizer.ggml.pre') ?? 'default';
  return {
    tokenizerJson: {
      ...shared,
      ...(model === 'gpt2' ? byteLevel(metadata, tokens, pre) : sentencePiece(metadata, tokens)),
    },
    tokenizerConfig: tokenizerConfig(metadata, tokens, model === 'llama' || pre === 'llama-bpe'),
  };
}

type Parts = Pick<TokenizerJson, 'normalizer' | 'pre_tokenizer' | 'decoder' | 'model'>;

function byteLevel(metadata: GgufMetadata, tokens: readonly string[], pre: string): Parts {
  const patterns = BYTE_LEVEL_PATTERNS.get(pre);
  if (patterns === undefined) {
    throw new RadixkvError('unsupported_model', `GGUF pre-tokenizer is not supported: ${pre}`);
  }
  return {
    normalizer: null,
    pre_tokenizer: sequence('pretokenizers', [
      ...patterns.map(isolate),
      { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
    ]),
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab: vocabulary(tokens),
      merges: list(metadata, z.string(), 'tokenizer.ggml.merges'),
      ignore_merges: pre === 'llama-bpe',
    },
  };
}

/**
 * SentencePiece BPE: any two neighbours merge whose union is a piece, the best score first. As merges: every split of
 * every piece, ranked by the piece's score, pieces of equal score alike.
 */
function sentencePiece(metadata: GgufMetadata, tokens: readonly string[]): Parts {
  const scores = list(metadata, z.coerce.number(), 'tokenizer.ggml.scores');
  const addSpace = metadata['tokenizer.ggml.add_space_prefix'] !== false;
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' };
  const unknown = metadata['tokenizer.ggml.unknown_token_id'];
  return {
    normalizer: sequence(
      'normalizers',
      addSpace ? [{ type: 'Prepend', prepend: '\u2581' }, replace] : [replace],
    ),
    pre_tokenizer: null,
    decoder: sequence('decoders', [
      { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
    ]),
    model: {
      type: 'BPE',
      vocab: vocabulary(tokens),
      ...scoreMerges(tokens, scores),
      byte_fallback: true,
      unk_token: unknown === undefined ? null : tokens[Number(unknown)]!,
    },
  };
}

/** Every split of every piece into two pieces or single characters, best score first. */
function scoreMerges(tokens: readonly string[], scores: readonly number[]) {
  const pieces = new Set(tokens);
  const mergeable = (part: string): boolean => pieces.has(part) || Array.from(part).length === 1;
  const order = tokens.map((_, id) => id).sort((a, b) => scores[b]! - scores[a]! || a - b);
  const merges: [string, string][] = [];
  const ranks: number[] = [];
  let rank = -1;
  let lastScore: number | undefined;
  for (const id of order) {
    if (scores[id] !== lastScore) rank++;
    lastScore = scores[id];
    const characters = Array.from(tokens[id]!);
    for (let cut = 1; cut < characters.length; cut++) {
      const left = characters.slice(0, cut).join('');
      const right = characters.slice(cut).join('');
      if (!mergeable(left) || !mergeable(right)) continue;
      merges.push([left, right]);
      ranks.push(rank);
    }
  }
  return { merges, merge_ranks: ranks };
}

function addedTokens(tokens: readonly string[], types: readonly number[]): AddedToken[] {
  return tokens.flatMap((content, id) => {
    const type = Number(types[id]);
    if (type !== UNKNOWN && type !== CONTROL && type !== USER_DEFINED) return [];
    return [{ id, content, special: type !== USER_DEFINED }];
  });
}

function tokenizerConfig(
  metadata: GgufMetadata,
  tokens: readonly string[],
  addBosDefault: boolean,
): TokenizerConfig {
  const name = (key: string): string | null => {
    const id = metadata[`tokenizer.ggml.${key}_token_id`];
    return id === undefined ? null : (tokens[Number(id)] ?? null);
  };
  const template = text(metadata, 'tokenizer.chat_template');
  const addBos = metadata['tokenizer.ggml.add_bos_token'];
  return {
    bos_token: name('bos'),
    eos_token: name('eos'),
    eot_token: name('eot'),
    eom_token: name('eom'),
    unk_token: name('unknown'),
    pad_token: name('padding'),
    add_bos_token: typeof addBos === 'boolean' ? addBos : addBosDefault,
    chat_template: template ?? null,
  };
}

/** Ids by spelling; of equal spellings the last one counts. */
function vocabulary(tokens: readonly string[]): Record<string, number> {
  return Object.fromEntries(tokens.map((token, id) => [token, id]));
}

function sequence(field: string, steps: readonly Step[]): Step {
  return { type: 'Sequence', [field]: steps };
}

function text(metadata: GgufMetadata, key: string): string | undefined {
  const value = metadata[key];
  return typeof value === 'string' ? value : undefined;
}

function list<T>(metadata: GgufMetadata, item: z.ZodType<T>, key: string): T[] {
  const value = metadata[key];
  const typed = value instanceof Int32Array || value instanceof Uint32Array || value instanceof Float32Array;
  const items = z.array(item).safeParse(typed ? Array.from(value) : value);
  if (items.success) return items.data;
  throw new RadixkvError('corrupt_model', `GGUF metadata lacks a valid ${key}`);
}
