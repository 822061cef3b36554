import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { createTerminal, type OutputStream } from '../../src/cli/terminal.js';

const MIB = 1024 ** 2;

/** Collects what is written; `isTTY` makes it a terminal. */
function sink(isTTY: boolean): { readonly stream: OutputStream; readonly text: () => string } {
  const parts: string[] = [];
  const stream = new Writable({
    decodeStrings: false,
    write(chunk: string, _encoding, done) {
      parts.push(chunk);
      done();
    },
  });
  const terminalCalls = {
    isTTY,
    columns: 120,
    cursorTo: () => true,
    clearLine: () => true,
    moveCursor: () => true,
  };
  return { stream: Object.assign(stream, isTTY ? terminalCalls : {}), text: () => parts.join('') };
}

test('in a log progress is a plain line at the start, every five seconds and at the end', () => {
  let now = 0;
  const err = sink(false);
  const out = sink(false);
  const terminal = createTerminal(out.stream, err.stream, { now: () => now, sleep: async () => undefined });
  for (let done = 0; done <= 100; done += 1) {
    now = done * 100;
    terminal.progress({ phase: 'download a', done: done * MIB, total: 100 * MIB, unit: 'bytes' });
  }
  terminal.progress({ phase: 'import', done: 1, total: 3 });
  terminal.note('done');
  terminal.print('result');
  assert.deepEqual(err.text().split('\n'), [
    'download a: 0% 0 B of 100 MiB',
    'download a: 50% 50 MiB of 100 MiB',
    'download a: 100% 100 MiB of 100 MiB',
    'import: 33%',
    'done',
    '',
  ]);
  assert.equal(out.text(), 'result\n');
});

test('nothing with control characters is written outside a terminal', () => {
  const err = sink(false);
  const terminal = createTerminal(sink(false).stream, err.stream, {
    now: () => 0,
    sleep: async () => undefined,
  });
  terminal.progress({ phase: 'a', done: 0, total: 0 });
  terminal.progress({ phase: 'a', done: 2, total: 2 });
  terminal.endProgress();
  assert.deepEqual(
    err
      .text()
      .split('')
      .filter((character) => character < ' ' && character !== '\n'),
    [],
  );
});

test('on a terminal progress is a bar that ends full and on a line of its own', () => {
  const err = sink(true);
  const terminal = createTerminal(sink(true).stream, err.stream, {
    now: () => 0,
    sleep: async () => undefined,
  });
  terminal.progress({ phase: 'download a', done: 0, total: 2 * MIB, unit: 'bytes' });
  terminal.progress({ phase: 'download a', done: 2 * MIB, total: 2 * MIB, unit: 'bytes' });
  terminal.note('next');
  assert.ok(!err.text().includes('[?7l'), 'line wrapping is never turned off, so Ctrl-C leaves it on');
  assert.match(err.text(), /download a \[■+\] 100% 2 MiB of 2 MiB[^\n]*\nnext\n$/);
});

test('a frame takes the place of the one before on a terminal, and is a block of lines elsewhere', () => {
  for (const [isTTY, expected] of [
    [true, '\u001b[H\u001b[Ja\nb\n\u001b[H\u001b[Jc\n'],
    [false, 'a\nb\n\nc\n\n'],
  ] as const) {
    const out = sink(isTTY);
    const clock = { now: () => 0, sleep: async () => undefined };
    const terminal = createTerminal(out.stream, sink(false).stream, clock);
    terminal.frame(['a', 'b']);
    terminal.frame(['c']);
    assert.equal(out.text(), expected);
  }
});
