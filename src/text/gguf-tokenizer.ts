/**
 * Converts the vocabulary inside a GGUF file to a `tokenizer.json` and `tokenizer_config.json` pair, so that serving
 * reads one format. Token ids equal llama.cpp's (golden vectors for every kind listed here); other kinds are refused
 * by name. Follows llama.cpp where it differs from the model's original tokenizer: no Unicode normalisation.
 */
import { RadixkvError } from '../errors.js';
import type { GgufMetadata } from '../model/gguf/tokenizer_metadata.js';
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

/**
 * @throws RadixkvError `unsupported_model` for other kinds of vocabulary, `corrupt_model` for missing fields.
 */
export function tokenizerFromGguf(metadata: GgufMetadata): {
  tokenizerJson: TokenizerJson;
  tokenizerConfig: TokenizerConfig;
} {
  const { model, tokens, pre = 'default' } = metadata;
  if (model !== 'gpt2' && model !== 'llama') {
    throw new RadixkvError('unsupported_model', `GGUF tokenizer model is not supported: ${model}`);
  }
  const types = present(metadata.tokenTypes, 'token_type');
  const shared = { added_tokens: addedTokens(tokens, types), post_processor: null };
  return {
    tokenizerJson: {
      ...shared,
      ...(model === 'gpt2' ? byteLevel(metadata, tokens, pre) : sentencePiece(metadata, tokens)),
    },
    tokenizerConfig: tokenizerConfig(metadata, model === 'llama' || pre === 'llama-bpe'),
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
      merges: [...present(metadata.merges, 'merges')],
      ignore_merges: pre === 'llama-bpe',
    },
  };
}

/**
 * SentencePiece BPE: any two neighbours merge whose union is a piece, the best score first. As merges: every split of
 * every piece, ranked by the piece's score, pieces of equal score alike.
 */
function sentencePiece(metadata: GgufMetadata, tokens: readonly string[]): Parts {
  const scores = present(metadata.scores, 'scores');
  const addSpace = metadata.addSpacePrefix !== false;
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' };
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
      unk_token: tokens[metadata.unknownTokenId ?? -1] ?? null,
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
    const type = types[id];
    if (type !== UNKNOWN && type !== CONTROL && type !== USER_DEFINED) return [];
    return [{ id, content, special: type !== USER_DEFINED }];
  });
}

function tokenizerConfig(metadata: GgufMetadata, addBosDefault: boolean): TokenizerConfig {
  const name = (id: number | undefined): string | null => metadata.tokens[id ?? -1] ?? null;
  return {
    bos_token: name(metadata.bosTokenId),
    eos_token: name(metadata.eosTokenId),
    eot_token: name(metadata.eotTokenId),
    eom_token: name(metadata.eomTokenId),
    unk_token: name(metadata.unknownTokenId),
    pad_token: name(metadata.paddingTokenId),
    add_bos_token: metadata.addBosToken ?? addBosDefault,
    chat_template: metadata.chatTemplate ?? null,
  };
}

/** Ids by spelling; of equal spellings the last one counts. */
function vocabulary(tokens: readonly string[]): Record<string, number> {
  return Object.fromEntries(tokens.map((token, id) => [token, id]));
}

function sequence(field: string, steps: readonly Step[]): Step {
  return { type: 'Sequence', [field]: steps };
}

function present<T>(value: T | undefined, key: string): T {
  if (value !== undefined) return value;
  throw new RadixkvError('corrupt_model', `GGUF metadata lacks tokenizer.ggml.${key}`);
}
