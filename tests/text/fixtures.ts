/** Files of tests/golden, from built tests. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type { GgufMetadata } from '../../src/model/gguf/tokenizer_metadata.js';

/** Path of a golden file: tests run from `dist/tests/text`. */
export function golden(name: string): URL {
  return new URL(`../../../tests/golden/${name}`, import.meta.url);
}

/** GGUF metadata of a committed vocabulary. */
export function vocabulary(name: 'smollm2' | 'sentencepiece'): GgufMetadata {
  const raw = parse<Metadata>(gunzipSync(readFileSync(golden(`${name}-vocabulary.json.gz`))).toString());
  return {
    architecture: 'llama',
    name: undefined,
    model: raw['tokenizer.ggml.model'],
    pre: raw['tokenizer.ggml.pre'],
    tokens: raw['tokenizer.ggml.tokens'],
    tokenTypes: raw['tokenizer.ggml.token_type'],
    scores: raw['tokenizer.ggml.scores'],
    merges: raw['tokenizer.ggml.merges'],
    bosTokenId: raw['tokenizer.ggml.bos_token_id'],
    eosTokenId: raw['tokenizer.ggml.eos_token_id'],
    eotTokenId: undefined,
    eomTokenId: undefined,
    unknownTokenId: raw['tokenizer.ggml.unknown_token_id'],
    paddingTokenId: raw['tokenizer.ggml.padding_token_id'],
    addBosToken: raw['tokenizer.ggml.add_bos_token'],
    addEosToken: undefined,
    addSpacePrefix: raw['tokenizer.ggml.add_space_prefix'],
    chatTemplate: raw['tokenizer.chat_template'],
  };
}

interface Metadata {
  'tokenizer.ggml.model': string;
  'tokenizer.ggml.pre': string;
  'tokenizer.ggml.tokens': string[];
  'tokenizer.ggml.token_type': number[];
  'tokenizer.ggml.scores': number[] | undefined;
  'tokenizer.ggml.merges': string[] | undefined;
  'tokenizer.ggml.bos_token_id': number;
  'tokenizer.ggml.eos_token_id': number;
  'tokenizer.ggml.unknown_token_id': number;
  'tokenizer.ggml.padding_token_id': number | undefined;
  'tokenizer.ggml.add_bos_token': boolean | undefined;
  'tokenizer.ggml.add_space_prefix': boolean | undefined;
  'tokenizer.chat_template': string | undefined;
}

/** JSON that the repository itself commits. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters
export function parse<T>(json: string): T {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return JSON.parse(json) as T;
}
