/** Streamed text: detokenisation and stop strings. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { StreamingDetokenizer } from '../../src/text/detokenizer.js';
import { StopMatcher } from '../../src/text/stop.js';

/** Token t < 256 is the byte t; 256 is a control token; 257 has no bytes. */
const tokens = {
  controlTokens: new Set([256]),
  tokenBytes: (token: number) =>
    token < 256 ? Uint8Array.of(token) : token === 256 ? Buffer.from('<end>') : new Uint8Array(0),
};

function stream(ids: readonly number[]): {
  pieces: string[];
  owners: number[][];
  rest: string;
  last: number[];
} {
  const detokenizer = new StreamingDetokenizer(tokens);
  const pieces: string[] = [];
  const owners: number[][] = [];
  for (const id of ids) {
    const piece = detokenizer.push(id);
    const taken = detokenizer.takeTokens();
    if (piece === '') assert.deepEqual(taken, []);
    else {
      pieces.push(piece);
      owners.push(taken);
    }
  }
  return { pieces, owners, rest: detokenizer.flush(), last: detokenizer.takeTokens() };
}

const text = fc
  .array(fc.constantFrom('a', 'é', '你', '😀', '\ufeff', '\u0301', '\n', '\ufffd'), { maxLength: 12 })
  .map((parts) => parts.join(''));
const bytes = fc.oneof(
  fc.array(fc.constantFrom(0x41, 0x80, 0xbf, 0xc3, 0xe4, 0xbd, 0xf0, 0x9f, 0x98, 0xff, 256, 257), {
    maxLength: 24,
  }),
  text.map((string) => [...Buffer.from(string)]),
);

test('streamed pieces joined are the text of all tokens at once, and every token belongs to one piece', () => {
  fc.assert(
    fc.property(bytes, (ids) => {
      const { pieces, owners, rest, last } = stream(ids);
      const whole = Buffer.from(ids.filter((id) => id < 256));
      assert.equal(pieces.join('') + rest, new TextDecoder('utf-8', { ignoreBOM: true }).decode(whole));
      assert.deepEqual([...owners.flat(), ...last], ids);
    }),
    { numRuns: 2000 },
  );
});

test('valid text is streamed in whole characters, without U+FFFD and as early as it can be', () => {
  fc.assert(
    fc.property(text, (string) => {
      const { pieces, owners, rest } = stream([...Buffer.from(string)]);
      assert.deepEqual(pieces, Array.from(string));
      assert.deepEqual(
        owners.map((owner) => owner.length),
        Array.from(string).map((character) => Buffer.byteLength(character)),
      );
      assert.equal(rest, '');
    }),
  );
});

test('a character that never becomes whole is one U+FFFD at the end', () => {
  assert.deepEqual(stream([0x41, 0xf0, 0x9f, 256]), {
    pieces: ['A'],
    owners: [[0x41]],
    rest: '\ufffd',
    last: [0xf0, 0x9f, 256],
  });
});

/** The text up to the stop string that ends first, of those the one that begins first. */
function cut(all: string, stop: readonly string[]): string | undefined {
  for (let end = 0; end <= all.length; end++) {
    const starts = stop
      .filter((string) => all.slice(0, end).endsWith(string))
      .map((string) => end - string.length);
    if (starts.length > 0) return all.slice(0, Math.min(...starts));
  }
  return undefined;
}

const word = (minLength: number, maxLength: number) =>
  fc.array(fc.constantFrom('a', 'b', 'c'), { minLength, maxLength }).map((letters) => letters.join(''));

test('stop strings are found at any cut of the text, and never emitted', () => {
  fc.assert(
    fc.property(
      fc.array(word(0, 5), { maxLength: 8 }),
      fc.array(word(1, 4), { maxLength: 3 }),
      (parts, stop) => {
        const matcher = new StopMatcher(stop);
        let emitted = '';
        let found: string | undefined;
        for (const part of parts) {
          const step = matcher.push(part);
          emitted += step.emit;
          found = step.stop;
          if (found !== undefined) break;
        }
        emitted += matcher.flush();
        const expected = cut(parts.join(''), stop);
        assert.equal(found !== undefined, expected !== undefined);
        assert.equal(emitted, expected ?? parts.join(''));
        if (found !== undefined)
          assert.ok(stop.includes(found) && parts.join('').startsWith(emitted + found));
      },
    ),
    { numRuns: 3000 },
  );
});

test('text that can not become a stop string is emitted at once', () => {
  const matcher = new StopMatcher(['END', '\n\n']);
  assert.deepEqual(matcher.push('Hello EN'), { emit: 'Hello ', stop: undefined });
  assert.deepEqual(matcher.push('T\n'), { emit: 'ENT', stop: undefined });
  assert.deepEqual(matcher.push('x'), { emit: '\nx', stop: undefined });
  assert.deepEqual(matcher.push('E'), { emit: '', stop: undefined });
  assert.equal(matcher.flush(), 'E');
  assert.deepEqual(new StopMatcher([]).push('anything'), { emit: 'anything', stop: undefined });
});
