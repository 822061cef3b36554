/** Numbered events: readers at their own pace, what they miss, and going on after a number. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CacheEvent, CacheEvents, type EventGap } from '../../src/cache/cache-events.js';

const KEPT = 4;

function filled(count: number): CacheEvents {
  const events = new CacheEvents({ now: () => 1000, kept: KEPT });
  for (let i = 0; i < count; i++) events.emit({ type: 'cleared', namespace: `${i + 1}` });
  return events;
}

const shown = (event: CacheEvent | EventGap): string =>
  event.type === 'gap' ? `gap ${event.from}-${event.to}` : `${event.seq}`;

async function read(events: CacheEvents, after: number, count: number): Promise<string[]> {
  const seen: string[] = [];
  for await (const event of events.read(after, new AbortController().signal)) {
    seen.push(shown(event));
    if (seen.length === count) break;
  }
  return seen;
}

test('a reader gets what came after its number, and what is to come', async () => {
  const events = filled(3);
  const reading = read(events, 1, 4);
  await Promise.resolve();
  events.emit({ type: 'cleared', namespace: '' });
  events.emit({ type: 'cleared', namespace: '' });
  assert.deepEqual(await reading, ['2', '3', '4', '5']);
});

test('what is not kept any more is missed, and told', async () => {
  assert.deepEqual(await read(filled(10), 2, 5), ['gap 3-6', '7', '8', '9', '10']);
  assert.deepEqual(await read(filled(10), 6, 4), ['7', '8', '9', '10']);
});

test('a slow reader misses what left the ring while it was busy', async () => {
  const events = filled(2);
  const seen: string[] = [];
  for await (const event of events.read(0, new AbortController().signal)) {
    seen.push(shown(event));
    if (seen.length === 1) for (let i = 0; i < 8; i++) events.emit({ type: 'cleared', namespace: '' });
    if (seen.at(-1) === '10') break;
  }
  assert.deepEqual(seen, ['1', 'gap 2-6', '7', '8', '9', '10']);
});

test('a number of an earlier process is a gap before all that is kept', async () => {
  assert.deepEqual(await read(filled(2), 99, 3), ['gap 100-0', '1', '2']);
});

test('readers end when they are aborted and when the stream is closed', async () => {
  const events = filled(0);
  const aborter = new AbortController();
  const all = async (signal: AbortSignal) => {
    for await (const event of events.read(0, signal)) assert.fail(shown(event));
  };
  const [aborted, closed] = [all(aborter.signal), all(new AbortController().signal)];
  aborter.abort();
  await aborted;
  events.close();
  await closed;
  await all(new AbortController().signal);
});
