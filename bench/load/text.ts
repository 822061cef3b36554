/** English without end, for prompts whose meaning does not matter: sentences put together by chance. */
import type { Random } from '../../src/engine/random.js';

/** One of each makes a sentence of about 25 tokens. */
const PARTS = [
  ['When the parcel is late,', 'If the invoice is wrong,', 'On a public holiday,', 'After two reminders,'],
  ['a customer', 'the night shift', 'every new member', 'our workshop in the harbour', 'the landlord'],
  ['may ask', 'must never ask', 'usually writes to', 'has to wait for', 'should first call'],
  ['the library', 'a neighbour', 'the repair service', 'one of the drivers', 'the chief accountant'],
  [
    'about the broken lamp',
    'for a second key',
    'about tickets to the museum',
    'for a bicycle with three wheels',
  ],
  ['before noon.', 'and keep a copy.', 'unless it rains.', 'as page twelve of the handbook says.'],
] as const;

export function sentence(random: Random): string {
  return PARTS.map((choices) => choices[Math.floor(random() * choices.length)]!).join(' ');
}

export function sentences(random: Random, count: number): string {
  return Array.from({ length: count }, () => sentence(random)).join(' ');
}
