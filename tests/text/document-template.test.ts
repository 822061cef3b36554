import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_DOCUMENT_TEMPLATE, DocumentTemplate } from '../../src/text/document-template.js';
import { assertRefused } from '../support/refused.js';

const make = async (source: string) => new DocumentTemplate(source);

test('a document reads as title, text and a blank line', () => {
  const template = new DocumentTemplate(DEFAULT_DOCUMENT_TEMPLATE);
  assert.equal(template.render({ title: 'Lamp', text: 'It burns.' }), 'Lamp\nIt burns.\n\n');
  assert.equal(template.render({ title: undefined, text: 'It burns. ' }), 'It burns. \n\n');
});

test('text that looks like a template is text', () => {
  const template = new DocumentTemplate(DEFAULT_DOCUMENT_TEMPLATE);
  assert.equal(template.render({ title: undefined, text: '{{ title }}' }), '{{ title }}\n\n');
});

test('a template that leaves out the text, or is none, is refused by its option', async () => {
  await assertRefused('invalid_value', /--document-template-file .*text/, () => make('{{ title }}'));
  await assertRefused('invalid_value', /--document-template-file/, () => make('{% if %}'));
});
