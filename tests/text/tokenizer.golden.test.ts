/** Token ids against llama.cpp's (tests/golden/make_tokenizer_golden.py). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { tokenizerFromGguf } from '../../src/text/gguf-tokenizer.js';
import { tokenizerFromJson } from '../../src/text/tokenizer.js';
import { TokenizerJson } from '../../src/text/tokenizer-json.js';
import { golden, parse, vocabulary } from './fixtures.js';

interface Golden {
  texts: string[];
  ids: Record<string, { plain: number[][]; special: number[][] }>;
}
const { texts, ids } = parse<Golden>(readFileSync(golden('tokenizer-ids.json'), 'utf8'));

for (const [kind, expected] of Object.entries(ids)) {
  const metadata =
    kind === 'llama'
      ? vocabulary('sentencepiece')
      : { ...vocabulary('smollm2'), pre: kind.slice('gpt2/'.length) };
  const { tokenizerJson, tokenizerConfig } = tokenizerFromGguf(metadata);
  // Through JSON, as the importer writes and the server reads it.
  const tokenizer = tokenizerFromJson(
    TokenizerJson.parse(parse(JSON.stringify(tokenizerJson))),
    tokenizerConfig,
  );

  test(`${kind}: plain text has llama.cpp's token ids`, () => {
    texts.forEach((text, i) => {
      assert.deepEqual([...tokenizer.encodeText(text)], expected.plain[i], JSON.stringify(text));
    });
  });

  test(`${kind}: text with control tokens has llama.cpp's token ids`, () => {
    texts.forEach((text, i) => {
      assert.deepEqual([...tokenizer.encodeRendered(text)], expected.special[i], JSON.stringify(text));
    });
  });

  test(`${kind}: decoding gives the text back`, () => {
    for (const text of texts) {
      const decoded = tokenizer.decode(tokenizer.encodeText(text));
      assert.equal(kind === 'llama' && text !== '' ? decoded.slice(1) : decoded, text);
    }
  });
}
