import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { RadixkvError } from '../../src/errors.js';
import { gate } from '../support/fake-passages.js';
import { pause, shelf } from './fixtures.js';

const TEXT = 'one two three four';
const PASSAGE = { title: undefined, text: TEXT };

suite('a document that is put', () => {
  test('is queued, then computed, then ready, and tells how far it is', async (t) => {
    const { library, passages, put, settled } = bound(shelf(t));
    const { work, open } = gate();
    passages.work = (job) => {
      job.onProgress(3);
      return work(job);
    };
    assert.deepEqual(put('a', TEXT), {
      id: 'a',
      title: undefined,
      status: 'computing',
      computedTokens: 3,
      tokens: 4,
      cached: { device: 0, host: 0, disk: 0, remote: 0 },
      createdAtMs: 1_000_000,
      expiresAtMs: undefined,
      isPinned: false,
      failure: undefined,
    });
    assert.equal(put('b', 'later').status, 'queued');
    assert.equal(library.read('', 'b')!.computedTokens, 0);
    open();
    const ready = await settled('a');
    assert.deepEqual([ready!.status, ready!.computedTokens], ['ready', 4]);
    assert.deepEqual(ready!.cached, { device: 0, host: 4, disk: 0, remote: 0 });
  });

  test('is found at once, before its KV is there', (t) => {
    const { library, passages, put } = bound(shelf(t));
    passages.work = gate().work;
    put('a', TEXT);
    assert.deepEqual(library.find('', 'a'), PASSAGE);
    assert.equal(library.find('', 'b'), undefined);
    assert.equal(library.find('other', 'a'), undefined);
  });

  test('waits for those before it: one is computed at a time, in the order of their puts', async (t) => {
    const { passages, put, settled } = bound(shelf(t));
    for (const id of ['c', 'a', 'b']) put(id, `text of ${id}`);
    for (const id of ['c', 'a', 'b']) assert.equal((await settled(id))!.status, 'ready');
    assert.deepEqual(
      passages.jobs.map(({ passage }) => passage.text),
      ['text of c', 'text of a', 'text of b'],
    );
    assert.equal(passages.runningMost, 1);
  });

  test('again as it is changes nothing but its end', async (t) => {
    const { clock, passages, put, settled } = bound(shelf(t));
    put('a', TEXT, { ttlMs: 5000 });
    const first = await settled('a');
    clock.nowMs += 4000;
    const again = put('a', TEXT, { ttlMs: 5000 });
    assert.deepEqual(again, { ...first, expiresAtMs: first!.expiresAtMs! + 4000 });
    await pause();
    assert.equal(passages.jobs.length, 1);
  });

  test('again while it is computed does not begin anew', async (t) => {
    const { passages, put, settled } = bound(shelf(t));
    const { work, open } = gate();
    passages.work = work;
    put('a', TEXT);
    assert.equal(put('a', TEXT).status, 'computing');
    open();
    await settled('a');
    await pause();
    assert.equal(passages.jobs.length, 1);
  });

  test('again after its KV was evicted is computed again', async (t) => {
    const { passages, put, settled } = bound(shelf(t));
    put('a', TEXT);
    await settled('a');
    passages.kept.clear();
    assert.notEqual(put('a', TEXT).status, 'ready');
    assert.equal((await settled('a'))!.cached.host, 4);
  });

  test('again with another pin has its KV kept by the new one', async (t) => {
    const { passages, put, settled } = bound(shelf(t));
    put('a', TEXT);
    await settled('a');
    put('a', TEXT, { isPinned: true, ttlMs: 9000 });
    assert.equal((await settled('a'))!.isPinned, true);
    const { pinned, ttlMs } = passages.jobs.at(-1)!;
    assert.deepEqual([passages.jobs.length, pinned, ttlMs], [2, true, 9000]);
    assert(passages.has('', PASSAGE));
  });

  test('with another text replaces the old one, whose KV goes', async (t) => {
    const { clock, library, passages, put, settled } = bound(shelf(t));
    put('a', TEXT);
    await settled('a');
    clock.nowMs += 1;
    put('a', 'five six');
    assert.equal(passages.has('', PASSAGE), false);
    assert.deepEqual(library.find('', 'a'), { title: undefined, text: 'five six' });
    const replaced = await settled('a');
    assert.deepEqual([replaced!.tokens, replaced!.createdAtMs], [2, clock.nowMs]);
  });

  test('with another title is another document', async (t) => {
    const { passages, put, settled } = bound(shelf(t));
    put('a', TEXT, { passage: { title: 'Title', text: TEXT } });
    await settled('a');
    put('a', TEXT);
    assert.equal(passages.has('', { title: 'Title', text: TEXT }), false);
    assert.equal((await settled('a'))!.title, undefined);
  });

  test('over one that is computed ends that, and leaves no KV of it', async (t) => {
    const { passages, put, settled } = bound(shelf(t));
    passages.work = gate().work;
    put('a', TEXT);
    const [job] = passages.jobs;
    passages.work = () => Promise.resolve();
    put('a', 'five six');
    assert.equal(job!.signal.aborted, true);
    assert.equal((await settled('a'))!.status, 'ready');
    assert.equal(passages.has('', PASSAGE), false);
  });

  test('that does not fit the context is refused, and not stored', (t) => {
    const { library, put } = bound(shelf(t));
    assert.throws(() => put('a', 'word '.repeat(51)), refusal('context_length_exceeded', 'text'));
    assert.equal(library.find('', 'a'), undefined);
  });
});

const failing = () => Promise.reject(new RadixkvError('engine_failed', 'the engine failed'));

suite('a document whose KV can not be computed', () => {
  test('says why, and is tried again at its next put only', async (t) => {
    const made = shelf(t);
    const { passages, put, settled } = bound(made);
    passages.work = failing;
    put('a', TEXT);
    const failed = await settled('a');
    assert.deepEqual([failed!.status, failed!.computedTokens], ['failed', 0]);
    assert.deepEqual(failed!.failure, { code: 'engine_failed', message: 'the engine failed' });
    put('b', 'another');
    await made.reopen();
    await settled('b');
    assert.equal((await settled('a'))!.status, 'failed');
    passages.work = () => Promise.resolve();
    const again = put('a', TEXT);
    assert.equal(again.failure, undefined);
    assert.equal((await settled('a'))!.status, 'ready');
  });

  test('does not hold up the next one', async (t) => {
    const { passages, put, settled } = bound(shelf(t));
    passages.work = ({ passage }) => (passage.text === TEXT ? failing() : Promise.resolve());
    put('a', TEXT);
    put('b', 'fine');
    assert.equal((await settled('b'))!.status, 'ready');
  });

  test('since the server stops stays queued', async (t) => {
    const made = shelf(t);
    const { passages, put, settled } = bound(made);
    passages.work = () => Promise.reject(new RadixkvError('shutting_down', 'the server is shutting down'));
    put('a', TEXT);
    await pause();
    assert.equal(made.library.read('', 'a')!.status, 'queued');
    passages.work = () => Promise.resolve();
    await made.reopen();
    assert.equal((await settled('a'))!.status, 'ready');
  });
});

suite('a document that is removed', () => {
  test('is gone, and so is its KV', async (t) => {
    const { library, passages, put, settled } = bound(shelf(t));
    put('a', TEXT);
    await settled('a');
    assert.equal(library.remove('', 'a'), true);
    assert.equal(library.remove('', 'a'), false);
    assert.equal(library.read('', 'a'), undefined);
    assert.equal(passages.has('', PASSAGE), false);
  });

  test('leaves the KV to another document of the same passage, but not to one of another tenant', async (t) => {
    const { library, passages, put, settled } = bound(shelf(t));
    put('a', TEXT);
    put('b', TEXT);
    put('c', TEXT, { namespace: 'other' });
    await settled('b');
    await settled('c', 'other');
    library.remove('', 'a');
    assert.equal(passages.has('', PASSAGE), true);
    library.remove('', 'b');
    assert.equal(passages.has('', PASSAGE), false);
    assert.equal(passages.has('other', PASSAGE), true);
  });

  test('while it is computed ends that, even if it is too late', async (t) => {
    const { library, passages, put } = bound(shelf(t));
    const { work, open } = gate();
    // Computes to its end, whoever aborts it.
    passages.work = async (job) => {
      await work({ ...job, signal: new AbortController().signal });
      passages.kept.add(JSON.stringify(['', undefined, TEXT]));
    };
    put('a', TEXT);
    library.remove('', 'a');
    assert.equal(passages.jobs[0]!.signal.aborted, true);
    open();
    await pause();
    assert.equal(passages.has('', PASSAGE), false);
  });
});

test('equal passages are kept as the most demanding of their documents asks', async (t) => {
  const { passages, put, settled } = bound(shelf(t));
  passages.work = gate().work;
  put('first', 'holds the others up');
  put('a', TEXT, { ttlMs: 1000 });
  put('b', TEXT, { ttlMs: 5000, isPinned: true });
  passages.work = () => Promise.resolve();
  put('first', 'something else');
  await settled('b');
  const wishes = passages.jobs.slice(1, 3).map(({ pinned, ttlMs }) => [pinned, ttlMs]);
  assert.deepEqual(wishes, [
    [true, 5000],
    [true, 5000],
  ]);
  put('c', TEXT);
  await settled('c');
  assert.equal(passages.jobs.at(-1)!.ttlMs, undefined);
});

suite('a library that was closed', () => {
  test('goes on with what was queued and computed, and leaves alone what was ready', async (t) => {
    const made = shelf(t);
    const { passages, put, settled } = bound(made);
    put('ready', 'done before');
    await settled('ready');
    passages.work = gate().work;
    put('computing', 'begun before');
    put('queued', 'not begun');
    await pause();
    await made.library.close();
    assert.equal(passages.jobs.at(-1)!.signal.aborted, true);
    passages.work = () => Promise.resolve();
    made.open();
    assert.equal((await settled('computing'))!.status, 'ready');
    assert.equal((await settled('queued'))!.status, 'ready');
    assert.deepEqual(
      passages.jobs.slice(2).map(({ passage }) => passage.text),
      ['begun before', 'not begun'],
    );
  });

  test('keeps titles, times, ends and pins', async (t) => {
    const made = shelf(t);
    const { put, settled } = bound(made);
    put('a', TEXT, { passage: { title: 'Title', text: TEXT }, ttlMs: 1234, isPinned: true });
    const before = await settled('a');
    await made.reopen();
    assert.deepEqual(made.library.read('', 'a'), before);
  });
});

suite('limits', () => {
  test('a namespace holds so many documents, whatever the others hold', (t) => {
    const { library, put } = bound(shelf(t, { limits: { documentsPerNamespaceMax: 2 } }));
    put('a', 'one');
    put('b', 'two');
    assert.throws(() => put('c', 'three'), refusal('library_full'));
    put('b', 'changed');
    put('c', 'three', { namespace: 'other' });
    library.remove('', 'a');
    put('c', 'three');
  });

  test('all documents together take so many bytes', (t) => {
    const { clock, put } = bound(shelf(t, { limits: { bytesMax: 100 } }));
    put('a', 'x'.repeat(80), { ttlMs: 1000 });
    assert.throws(() => put('b', 'y'.repeat(20), { namespace: 'other' }), refusal('library_full'));
    assert.throws(() => put('a', 'z'.repeat(93)), refusal('library_full'));
    put('a', 'z'.repeat(90), { ttlMs: 1000 });
    clock.nowMs += 1000;
    put('b', 'y'.repeat(90));
  });
});

test('documents are listed by their ids, page after page, each namespace by itself', (t) => {
  const { library, put } = bound(shelf(t));
  for (const id of ['b', 'a.1', 'C', 'd', 'a']) put(id, 'text');
  put('b2', 'text', { namespace: 'other' });
  const pages: string[][] = [];
  let after: string | undefined;
  let hasMore = true;
  while (hasMore) {
    const page = library.list('', { limit: 2, after });
    pages.push(page.documents.map(({ id }) => id));
    after = page.documents.at(-1)!.id;
    ({ hasMore } = page);
    library.remove('', after);
  }
  assert.deepEqual(pages, [['C', 'a'], ['a.1', 'b'], ['d']]);
});

test('a page of long documents is shorter, never empty', (t) => {
  const { library, put } = bound(shelf(t));
  const long = 'x'.repeat(700_000);
  for (const id of ['a', 'b', 'c']) put(id, long);
  const first = library.list('', { limit: 100, after: undefined });
  assert.deepEqual([first.documents.length, first.hasMore], [2, true]);
  const second = library.list('', { limit: 100, after: 'b' });
  assert.deepEqual([second.documents.length, second.hasMore], [1, false]);
});

/** A shelf's parts, `put` and `settled` ready to be called. */
function bound(made: ReturnType<typeof shelf>) {
  return {
    library: made.library,
    clock: made.clock,
    passages: made.passages,
    put: made.put.bind(made),
    settled: made.settled.bind(made),
  };
}

function refusal(code: string, param?: string) {
  return (error: unknown) => {
    assert.ok(error instanceof RadixkvError, String(error));
    assert.deepEqual([error.code, error.param], [code, param]);
    return true;
  };
}
