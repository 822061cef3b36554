import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { gate } from '../support/fake-passages.js';
import { type Shelf, shelf } from './fixtures.js';

const PASSAGE = { title: undefined, text: 'one two three' };

const ids = ({ library }: Shelf): string[] =>
  library.list('', { limit: 100, after: undefined }).documents.map(({ id }) => id);

suite('a document with a time to live', () => {
  test('is gone from its last millisecond on, however one looks for it, with its KV', async (t) => {
    const made = shelf(t);
    const { clock, library, passages } = made;
    made.put('a', PASSAGE.text, { ttlMs: 1000 });
    made.put('b', 'stays');
    assert.equal((await made.settled('a'))!.expiresAtMs, clock.nowMs + 1000);
    clock.nowMs += 999;
    assert.deepEqual(library.find('', 'a'), PASSAGE);
    assert.deepEqual(ids(made), ['a', 'b']);
    clock.nowMs += 1;
    assert.equal(library.find('', 'a'), undefined);
    assert.equal(library.read('', 'a'), undefined);
    assert.equal(library.remove('', 'a'), false);
    assert.deepEqual(ids(made), ['b']);
    assert.equal(passages.has('', PASSAGE), false);
  });

  test('is removed when its time has come, though nobody asks', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const made = shelf(t);
    const { clock, passages } = made;
    made.put('late', 'later than the other', { ttlMs: 5000 });
    made.put('a', PASSAGE.text, { ttlMs: 1000 });
    await made.settled('a');
    const advance = (ms: number) => {
      clock.nowMs += ms;
      t.mock.timers.tick(ms);
    };
    advance(999);
    assert.equal(passages.has('', PASSAGE), true);
    advance(1);
    assert.equal(passages.has('', PASSAGE), false);
    assert.equal(passages.kept.size, 1);
    advance(4000);
    assert.equal(passages.kept.size, 0);
  });

  test('may live longer than a timer can count', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const made = shelf(t);
    const yearMs = 365 * 24 * 3600 * 1000;
    made.put('a', PASSAGE.text, { ttlMs: yearMs });
    await made.settled('a');
    t.mock.timers.tick(2 ** 31);
    assert.equal(made.passages.has('', PASSAGE), true);
  });

  test('that passed while the server was down is not found, and not computed', async (t) => {
    const made = shelf(t);
    made.passages.work = gate().work;
    made.put('a', PASSAGE.text, { ttlMs: 1000 });
    await made.library.close();
    made.clock.nowMs += 1000;
    const { length } = made.passages.jobs;
    made.open();
    assert.equal(made.passages.jobs.length, length);
    assert.equal(made.library.find('', 'a'), undefined);
  });

  test('lives no longer than that from when the clock was put back', async (t) => {
    const made = shelf(t);
    const { clock, library } = made;
    made.put('a', PASSAGE.text, { ttlMs: 1000 });
    await made.settled('a');
    clock.nowMs -= 500_000;
    assert.deepEqual(library.find('', 'a'), PASSAGE);
    clock.nowMs += 1000;
    assert.equal(library.find('', 'a'), undefined);
  });

  test('loses its end when it is put without one', async (t) => {
    const made = shelf(t);
    made.put('a', PASSAGE.text, { ttlMs: 1000 });
    made.put('a', PASSAGE.text);
    made.clock.nowMs += 5000;
    assert.equal((await made.settled('a'))!.expiresAtMs, undefined);
  });
});
