import assert from 'node:assert/strict';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { RadixkvError } from '../../src/errors.js';
import type { GgufMetadata } from '../../src/model/gguf/tokenizer_metadata.js';
import { tokenizerFromGguf } from '../../src/text/gguf-tokenizer.js';
import { createTokenizer, tokenizerFromJson } from '../../src/text/tokenizer.js';
import type { TokenizerConfig, TokenizerJson } from '../../src/text/tokenizer-json.js';
import { vocabulary } from './fixtures.js';

const { tokenizerJson, tokenizerConfig } = tokenizerFromGguf(vocabulary('smollm2'));
const smollm = tokenizerFromJson(tokenizerJson, tokenizerConfig);
const IM_START = 1;
const IM_END = 2;

const code = (expected: string) => (error: unknown) =>
  error instanceof RadixkvError && error.code === expected;

const printable = (byte: number): boolean => (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173);

/** GPT-2's character of a byte. */
function byteSpelling(byte: number): string {
  const shifted = Array.from({ length: byte }, (_, lower) => lower).filter(
    (lower) => !printable(lower),
  ).length;
  return String.fromCharCode(printable(byte) ? byte : 256 + shifted);
}

/** A byte-level tokenizer whose vocabulary is the 256 bytes, `pieces` and added tokens. */
function tinyTokenizer(
  pieces: [string, string][],
  added: TokenizerJson['added_tokens'],
  more: Partial<TokenizerJson> = {},
) {
  const bytes = Array.from({ length: 256 }, (_, byte) => byteSpelling(byte));
  const spellings = [...bytes, ...pieces.map(([left, right]) => left + right)];
  const json: TokenizerJson = {
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(spellings.map((spelling, id) => [spelling, id])),
      merges: pieces,
    },
    ...more,
  };
  return (config: TokenizerConfig = {}) => tokenizerFromJson(json, config);
}

test('user text never becomes a control token', () => {
  for (const spelling of smollm.controlSpellings) {
    for (const text of [spelling, `a${spelling}b`, spelling.repeat(3), spelling + spelling.slice(0, -1)]) {
      const tokens = smollm.encodeText(text);
      assert.ok(
        tokens.every((token) => !smollm.controlTokens.has(token)),
        text,
      );
      assert.equal(smollm.decode(tokens), text);
    }
  }
});

test('rendered text becomes control tokens, except where the marker breaks a spelling', () => {
  assert.deepEqual([...smollm.encodeRendered('<|im_start|><|im_end|>')], [IM_START, IM_END]);
  const broken = smollm.encodeRendered('<\ufdd0|im_end|>', '\ufdd0');
  assert.deepEqual(broken, smollm.encodeText('<|im_end|>'));
});

test('added tokens that are no control tokens are matched in plain text, the longest first', () => {
  const tokenizer = tinyTokenizer(
    [],
    [
      { id: 256, content: '<think>', special: false },
      { id: 257, content: '<think>\n', special: false },
      { id: 258, content: '<s>', special: true },
    ],
  )();
  assert.deepEqual([...tokenizer.encodeText('<think>\n<think><s>')], [257, 256, 60, 115, 62]);
  assert.equal(tokenizer.decode([256, 258, 65]), '<think>A', 'control tokens are no text');
});

test('an added token takes the white space beside it where it says so', () => {
  const tokenizer = tinyTokenizer(
    [],
    [
      { id: 256, content: '<l>', special: true, lstrip: true },
      { id: 257, content: '<r>', special: true, rstrip: true },
    ],
  )();
  assert.deepEqual([...tokenizer.encodeRendered('a <l> b')], [97, 256, 32, 98].map(toByteToken));
  assert.deepEqual([...tokenizer.encodeRendered('a <r> b')], [97, 32, 257, 98].map(toByteToken));
  function toByteToken(token: number): number {
    return token === 32 ? tokenizer.encodeText(' ')[0]! : token;
  }
});

test('end tokens are those that the files name and the known spellings among control tokens', () => {
  assert.deepEqual(
    [...smollm.endTokens].sort((a, b) => a - b),
    [0, IM_END],
  );
  const added = [
    { id: 256, content: '<end>', special: true },
    { id: 257, content: '<|eot_id|>', special: true },
    { id: 258, content: '<|im_end|>', special: false },
  ];
  assert.deepEqual(
    [...tinyTokenizer([], added)({ eos_token: '<end>' }).endTokens].sort((a, b) => a - b),
    [256, 257],
  );
});

test('a sequence begins with bos where the configuration or the post-processor says so', () => {
  const added = [{ id: 256, content: '<s>', special: true }];
  const post_processor = {
    type: 'Sequence',
    processors: [
      {
        type: 'TemplateProcessing',
        single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A' } }],
      },
    ],
  };
  const bos_token = '<s>';
  assert.equal(tinyTokenizer([], added)({ bos_token }).addBos, false);
  assert.equal(tinyTokenizer([], added)({ bos_token, add_bos_token: true }).addBos, true);
  assert.equal(tinyTokenizer([], added, { post_processor })({ bos_token }).addBos, true);
  assert.equal(
    tinyTokenizer([], added, { post_processor })({ bos_token, add_bos_token: false }).addBos,
    false,
  );
  assert.equal(smollm.addBos, false);
});

test('digits outside ASCII are split like ASCII digits', () => {
  const pre_tokenizer = {
    type: 'Sequence',
    pretokenizers: [
      { type: 'Digits', individual_digits: true },
      { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
    ],
  };
  // `²²` would be one token if the digits stayed together: bytes C2 B2 C2 B2.
  const merges: [string, string][] = [
    ['Â', '²'],
    ['Â²', 'Â²'],
  ];
  const id = 256;
  assert.deepEqual([...tinyTokenizer(merges, [])().encodeText('²²')], [id + 1]);
  assert.deepEqual([...tinyTokenizer(merges, [], { pre_tokenizer })().encodeText('²²')], [id, id]);
});

test('a run of 200,000 letters has the tokens of the merges, without quadratic cost', () => {
  const merges: [string, string][] = [
    ['a', 'a'],
    ['aa', 'aa'],
  ];
  const tokens = tinyTokenizer(merges, [])().encodeText('a'.repeat(200_003));
  assert.equal(tokens.length, 50_002);
  assert.ok(tokens.subarray(0, 50_000).every((token) => token === 257));
  assert.deepEqual([...tokens.subarray(50_000)], [256, 97]);
});

test('a tokenizer that can not be reproduced is refused by name', () => {
  const refused = (more: Partial<TokenizerJson>, name: RegExp): void => {
    assert.throws(
      () => tinyTokenizer([], [], more)(),
      (error: unknown) => code('unsupported_model')(error) && name.test(String(error)),
    );
  };
  refused({ model: { ...tokenizerJson.model, type: 'Unigram' } }, /Unigram/);
  refused({ pre_tokenizer: { type: 'BertPreTokenizer' } }, /BertPreTokenizer/);
  refused({ normalizer: { type: 'Precompiled' } }, /Precompiled/);
  refused({ decoder: { type: 'WordPiece' } }, /WordPiece/);
  refused(
    { pre_tokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: 'MergedWithNext' } },
    /MergedWithNext/,
  );
  const gguf = (changed: Partial<GgufMetadata>, name: RegExp): void => {
    assert.throws(
      () => tokenizerFromGguf({ ...vocabulary('smollm2'), ...changed }),
      (error: unknown) => code('unsupported_model')(error) && name.test(String(error)),
    );
  };
  gguf({ model: 'bert' }, /bert/);
  gguf({ pre: 'tekken' }, /tekken/);
  assert.throws(
    () => tokenizerFromGguf({ ...vocabulary('smollm2'), merges: undefined }),
    code('corrupt_model'),
  );
});

test('a directory is read with its configuration and generation end tokens', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-tokenizer-'));
  await assert.rejects(createTokenizer(directory), code('corrupt_model'));
  await writeFile(join(directory, 'tokenizer.json'), JSON.stringify(tokenizerJson));
  await writeFile(
    join(directory, 'tokenizer_config.json'),
    JSON.stringify({ ...tokenizerConfig, eos_token: { content: '<|im_end|>' } }),
  );
  await writeFile(join(directory, 'generation_config.json'), '{"eos_token_id":[2,5]}');
  const tokenizer = await createTokenizer(directory);
  assert.deepEqual(tokenizer.encodeText('Hello, world!'), smollm.encodeText('Hello, world!'));
  assert.deepEqual(
    [...tokenizer.endTokens].sort((a, b) => a - b),
    [0, 2, 5],
  );
  assert.equal(tokenizer.vocab, 49_152);
  await writeFile(join(directory, 'tokenizer.json'), '{');
  await assert.rejects(createTokenizer(directory), code('corrupt_model'));
});
