import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Schema, schemaText } from '../../dashboard/schema-text.js';

const none = () => undefined;

test('an object is a field a line, with what each must keep, without what is not supported', () => {
  const schema: Schema = {
    type: 'object',
    required: ['model'],
    properties: {
      model: { type: 'string', description: 'Of the model.' },
      n: { default: 1, anyOf: [{ type: 'integer', minimum: 1, maximum: 16 }, { type: 'null' }] },
      seed: { type: 'integer', minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER },
      stop: {
        anyOf: [
          { type: 'string', minLength: 1 },
          { type: 'array', maxItems: 4, items: { type: 'string' } },
        ],
      },
      mode: { enum: ['a', null] },
      tools: { enum: [[], null], deprecated: true },
      parts: {
        type: 'array',
        items: { type: 'object', properties: { ok: { const: true } }, required: ['ok'] },
      },
    },
  };
  assert.equal(
    schemaText(schema, none),
    `{
  model: string  // Of the model.
  n?: integer | null  // 1 to 16, default 1
  seed?: integer
  stop?: string | list of string  // at least 1 characters
  mode?: "a" | null
  parts?: list of {
    ok: true
  }
}`,
  );
});

test('references are followed, unions and maps are written, and of an error its shape', () => {
  const pin: Schema = { type: 'object', properties: { id: { type: ['string', 'null'] } } };
  const resolve = (ref: string) => (ref === '#/components/schemas/Pin' ? pin : undefined);
  const ref = { $ref: '#/components/schemas/Pin' };
  assert.equal(schemaText({ oneOf: [ref, { type: 'null' }] }, resolve), '{\n  id?: string | null\n} | null');
  assert.equal(
    schemaText({ type: 'object', additionalProperties: { type: 'number' } }, none),
    '{\n  [name]: number\n}',
  );
  assert.equal(schemaText({ allOf: [ref, { properties: {} }] }, resolve), '{\n  id?: string | null\n}');
  assert.equal(schemaText({}, none), 'anything');
});
