/** What a GGUF file says about its tokenizer, typed and otherwise as it stands in the file. */
import { readGgufHeader } from './header.js';

export interface GgufMetadata {
  /** `general.architecture` and `general.name`. */
  readonly architecture: string;
  readonly name: string | undefined;
  /** `tokenizer.ggml.*`; `model` is `gpt2` (byte-level BPE), `llama` (SentencePiece) or another. */
  readonly model: string;
  /** Name of the pre-tokenizer, e.g. `smollm`, `qwen2`, `llama-bpe`. */
  readonly pre: string | undefined;
  /** Text of token i; the token's id is its place. */
  readonly tokens: readonly string[];
  /** Per token: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. */
  readonly tokenTypes: readonly number[] | undefined;
  /** Per token log probability (SentencePiece). */
  readonly scores: readonly number[] | undefined;
  /** Each `left right`, best first (BPE). */
  readonly merges: readonly string[] | undefined;
  readonly bosTokenId: number | undefined;
  readonly eosTokenId: number | undefined;
  /** End of turn and end of message, where the file has them beside EOS. */
  readonly eotTokenId: number | undefined;
  readonly eomTokenId: number | undefined;
  readonly unknownTokenId: number | undefined;
  readonly paddingTokenId: number | undefined;
  readonly addBosToken: boolean | undefined;
  readonly addEosToken: boolean | undefined;
  readonly addSpacePrefix: boolean | undefined;
  /** Jinja source of the default chat template. */
  readonly chatTemplate: string | undefined;
}

const key = (name: string): string => `tokenizer.ggml.${name}`;

/**
 * Reads the tokenizer's metadata (about 0.15 s for 50,000 tokens).
 * @throws RadixkvError as `readGgufHeader`, and `corrupt_model` when there are no tokens.
 */
export async function readGgufMetadata(path: string): Promise<GgufMetadata> {
  const { metadata } = await readGgufHeader(path);
  return {
    architecture: metadata.string('general.architecture'),
    name: metadata.optionalString('general.name'),
    model: metadata.string(key('model')),
    pre: metadata.optionalString(key('pre')),
    tokens: metadata.strings(key('tokens')),
    tokenTypes: metadata.optionalNumbers(key('token_type')),
    scores: metadata.optionalNumbers(key('scores')),
    merges: metadata.optionalStrings(key('merges')),
    bosTokenId: metadata.optionalNumber(key('bos_token_id')),
    eosTokenId: metadata.optionalNumber(key('eos_token_id')),
    eotTokenId: metadata.optionalNumber(key('eot_token_id')),
    eomTokenId: metadata.optionalNumber(key('eom_token_id')),
    unknownTokenId: metadata.optionalNumber(key('unknown_token_id')),
    paddingTokenId: metadata.optionalNumber(key('padding_token_id')),
    addBosToken: metadata.optionalBoolean(key('add_bos_token')),
    addEosToken: metadata.optionalBoolean(key('add_eos_token')),
    addSpacePrefix: metadata.optionalBoolean(key('add_space_prefix')),
    chatTemplate: metadata.optionalString('tokenizer.chat_template'),
  };
}
