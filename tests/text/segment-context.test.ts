import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeDocuments } from '../../src/text/chat-prompt.js';
import { ChatTemplate, templateSource } from '../../src/text/chat-template.js';
import { DEFAULT_DOCUMENT_TEMPLATE, DocumentTemplate } from '../../src/text/document-template.js';
import { tokenizerFromGguf } from '../../src/text/gguf-tokenizer.js';
import { segmentContext } from '../../src/text/segment-context.js';
import { tokenizerFromJson } from '../../src/text/tokenizer.js';
import { vocabulary } from './fixtures.js';

const { tokenizerJson, tokenizerConfig } = tokenizerFromGguf(vocabulary('smollm2'));
const tokenizer = tokenizerFromJson(tokenizerJson, tokenizerConfig);
const template = new ChatTemplate(templateSource(tokenizerConfig)!, tokenizer.names);
const parts = { tokenizer, template, documentTemplate: new DocumentTemplate(DEFAULT_DOCUMENT_TEMPLATE) };

test('the context of a segment begins like a prompt with documents, and is whole chunks of them', () => {
  const context = segmentContext(parts, { chunkTokens: 64, contextTokens: 8192 });
  assert.equal(context.length, 512);
  const asker = { role: 'user', content: 'Well?' } as const;
  const document = { title: 'Storm records', text: 'Something else.' };
  const { tokens, located } = encodeDocuments(parts, [asker], [document], { addGenerationPrompt: true });
  assert.deepEqual(context.slice(0, located[0]?.start ?? 20), tokens.slice(0, located[0]?.start ?? 20));
});

test('it takes an eighth of the context of the model at most, and may be nothing', () => {
  assert.equal(segmentContext(parts, { chunkTokens: 64, contextTokens: 1024 }).length, 128);
  assert.equal(segmentContext(parts, { chunkTokens: 64, contextTokens: 256 }).length, 0);
  const withoutTemplate = { ...parts, template: undefined };
  assert.equal(segmentContext(withoutTemplate, { chunkTokens: 64, contextTokens: 8192 }).length, 0);
});
