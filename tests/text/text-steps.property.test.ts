/** Words of the quick way are those of the library's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createWordSplitter, isolate } from '../../src/text/text-steps.js';

/** What matches nothing changes nothing, but is no step of the quick way. */
const NO_STEP = isolate('(?!)');

const pieces = fc.constantFrom(
  ' ',
  '  ',
  '\n',
  "'s",
  "'",
  'a',
  'Bc',
  '1',
  '23',
  '٣',
  '½',
  '.',
  '🙂',
  'é',
  '\u00a0',
  '\ud83d',
);
const text = fc.oneof(
  fc.array(pieces, { maxLength: 30 }).map((all) => all.join('')),
  fc.string({ unit: 'binary' }),
);

for (const [name, before] of [
  ['words', []],
  ['single digits and words', [{ type: 'Digits', individual_digits: true }]],
  ['runs of digits and words', [{ type: 'Digits', individual_digits: false }]],
] as const) {
  test(`the same ${name} come out, and nothing of the text is lost`, () => {
    const bytes = { type: 'ByteLevel', add_prefix_space: false };
    const quick = createWordSplitter(null, { type: 'Sequence', pretokenizers: [...before, bytes] });
    const slow = createWordSplitter(null, { type: 'Sequence', pretokenizers: [NO_STEP, ...before, bytes] });
    fc.assert(
      fc.property(text, (raw) => {
        const words = quick.split(raw, 0);
        assert.deepEqual(words, slow.split(raw, 0));
        assert.equal(words.join(''), raw);
      }),
    );
  });
}
