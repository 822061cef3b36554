/** Passages ahead of time, behind the whole service and its library of documents, over the tiny chat model. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { DocumentLibrary } from '../../src/documents/library.js';
import type { BackendOptions } from '../../src/server.js';
import { type CacheControl, DEFAULT_CACHE, NO_TOKENS, tokensOf } from '../../src/serving/completion.js';
import type { Passage } from '../../src/serving/passages.js';
import { type Answer, ask, type TestBackend, testBackend, WorkerTap } from '../support/backend.js';
import { assertRefused } from '../support/refused.js';

const LAMP: Passage = {
  title: 'The lamp',
  text: 'The lamp of the tower burns oil, and is lit at dusk by the keeper himself.',
};
const BOAT: Passage = {
  title: undefined,
  text: 'A boat brings flour on the first day of each month, if it can.',
};
const KEPT = { ttlMs: undefined, isPinned: false };
const CHUNK_TOKENS = 16;
/** Of what stands before a passage. */
const CONTEXT_CHUNKS = 16;

interface Shelf extends TestBackend {
  readonly library: DocumentLibrary;
}

async function shelf(t: TestContext, options: Partial<BackendOptions> = {}): Promise<Shelf> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-documents-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const backend = await testBackend(t, { documentsFile: join(directory, 'documents.sqlite'), ...options });
  return { ...backend, library: backend.documents! };
}

/** Puts a document and waits until it is what it will be. */
async function put({ library, scheduler }: Shelf, id: string, passage: Passage, order = KEPT) {
  library.put('', id, { passage, ...order });
  for (;;) {
    const { status } = library.read('', id)!;
    if (status === 'ready' || status === 'failed') return library.read('', id)!;
    await scheduler.idle();
    await new Promise(setImmediate);
  }
}

function askAbout(
  backend: TestBackend,
  ids: readonly string[],
  cache: Partial<CacheControl> = { mode: 'blend' },
) {
  const messages = [{ role: 'user', content: 'When is it lit?' }] as const;
  return ask(backend, {
    prompt: { kind: 'chat', messages, documents: ids.map((id) => ({ id })) },
    cache: { ...DEFAULT_CACHE, explain: true, ...cache },
  });
}

const sources = ({ explanation }: Answer) => explanation!.documents.map(({ source }) => source);

test('a stored document is computed ahead of time, and a request that names it only recomputes', async (t) => {
  const backend = await shelf(t);
  const { tap, library } = backend;
  const queued = library.put('', 'lamp', { passage: LAMP, ...KEPT });
  assert.deepEqual(queued.cached, NO_TOKENS);
  const lamp = await put(backend, 'lamp', LAMP);
  assert.equal(lamp.status, 'ready');
  assert.deepEqual(lamp.cached, { device: 0, host: lamp.tokens, disk: 0, remote: 0 });
  assert.equal(lamp.computedTokens, lamp.tokens);
  await put(backend, 'boat', BOAT);
  const before = tap.requests.length;
  const answer = await askAbout(backend, ['boat', 'lamp']);
  assert.deepEqual(sources(answer), ['host', 'host']);
  const header = answer.explanation!.documents[0]!.start;
  assert.equal(tap.prefilled(before), header, 'only what stands before the documents is prefilled');
  const stored = library.read('', 'boat')!.tokens + library.read('', 'lamp')!.tokens;
  assert.equal(tokensOf(answer.usage.blendedTokens) + answer.explanation!.recomputed.length, stored);
});

test('a document of a few tokens is ready, and computed where it stands', async (t) => {
  const backend = await shelf(t);
  const short = await put(backend, 'short', { title: undefined, text: 'Yes.' });
  assert.equal(short.status, 'ready');
  const answer = await askAbout(backend, ['short']);
  assert.equal(answer.explanation!.outcome, 'no_documents');
  assert.equal(answer.usage.computedTokens, answer.usage.promptTokens);
});

test('a deleted document leaves the cache, and not the one with the same text', async (t) => {
  const backend = await shelf(t);
  const { library, cache } = backend;
  await put(backend, 'lamp', LAMP);
  await put(backend, 'twin', LAMP);
  await put(backend, 'boat', BOAT);
  const segments = () => cache.reading().prefixes!.tiers.host!.classes.segment!.chunks;
  const chunksOf = (id: string) => Math.ceil(library.read('', id)!.tokens / CHUNK_TOKENS);
  const all = segments();
  assert.equal(all, CONTEXT_CHUNKS + chunksOf('lamp') + chunksOf('boat'));
  library.remove('', 'lamp');
  assert.equal(segments(), all);
  library.remove('', 'twin');
  assert.equal(segments(), CONTEXT_CHUNKS + chunksOf('boat'));
  library.remove('', 'boat');
  assert.equal(segments(), 0);
});

test('a pinned document stays when others crowd it out, until it is pinned no more', async (t) => {
  const backend = await shelf(t, { hostBytes: 64 * CHUNK_TOKENS * 256, segmentShare: 1 });
  const { library } = backend;
  await put(backend, 'lamp', LAMP, { ...KEPT, isPinned: true });
  const crowd = async (round: number) => {
    for (let i = 0; i < 12; i++)
      await put(backend, `${round}/${i}`, { ...BOAT, text: `${round} ${i} ${BOAT.text}` });
  };
  await crowd(1);
  assert.equal(library.read('', 'lamp')!.cached.host, library.read('', 'lamp')!.tokens);
  const crowded = library.read('', '1/0')!;
  assert(tokensOf(crowded.cached) < crowded.tokens, 'there was no room for all');
  await put(backend, 'lamp', LAMP);
  await crowd(2);
  assert(tokensOf(library.read('', 'lamp')!.cached) < library.read('', 'lamp')!.tokens);
});

test('a document that is deleted while it is computed leaves nothing', async (t) => {
  const backend = await shelf(t, { tileTokens: 16 });
  const { tap, library, scheduler, cache } = backend;
  let tiles = 0;
  const stopped = new Promise<void>((resolve) => {
    tap.onRequest = (asked) => {
      if (asked.op !== 'prefill' || ++tiles !== 2) return;
      library.remove('', 'lamp');
      resolve();
    };
  });
  library.put('', 'lamp', { passage: LAMP, ...KEPT });
  await stopped;
  await scheduler.idle();
  assert.deepEqual(cache.audit(), { activeRuns: 0, leases: 0 });
  assert.equal(tap.runTokens, 0);
  assert.equal(cache.reading().prefixes!.chunks, 0);
});

test('documents are computed while requests are, and are computed again after the engine died', async (t) => {
  const backend = await shelf(t, { tileTokens: 512 });
  const { tap, library, scheduler } = backend;
  library.put('', 'lamp', { passage: LAMP, ...KEPT });
  const answers = Promise.all(
    ['a', 'b', 'c'].map((word) => ask(backend, { prompt: word.repeat(40), maxTokens: 64 })),
  );
  await answers;
  assert(library.read('', 'lamp')!.computedTokens > 0, 'it had its turns');
  await put(backend, 'lamp', LAMP);

  const died = new Promise<void>((resolve) => {
    tap.worker!.once('exit', () => resolve());
    tap.onRequest = (asked) => {
      if (asked.op !== 'prefill') return;
      tap.onRequest = () => {};
      void tap.worker!.terminate();
    };
  });
  library.put('', 'boat', { passage: BOAT, ...KEPT });
  await died;
  await scheduler.idle();
  assert.equal(library.read('', 'boat')!.status, 'failed');
  assert.equal((await put(backend, 'boat', BOAT)).status, 'ready');
});

test('a template that can not be used is refused before anything is started', async (t) => {
  const tap = new WorkerTap();
  const options = { documentTemplate: '{{ title }}', createWorker: tap.createWorker };
  await assertRefused('invalid_value', /--document-template-file/, () => testBackend(t, options));
  assert.equal(tap.workers, 0);
});

test('a server that stops leaves a document queued, and the next one computes it', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-documents-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const documentsFile = join(directory, 'documents.sqlite');
  const first = await testBackend(t, { documentsFile, tileTokens: 16 });
  first.documents!.put('', 'lamp', { passage: LAMP, ...KEPT });
  await first.close();
  const second = await testBackend(t, { documentsFile });
  while (second.documents!.read('', 'lamp')!.status !== 'ready') {
    await second.scheduler.idle();
    await new Promise(setImmediate);
  }
  assert.equal(
    tokensOf(second.documents!.read('', 'lamp')!.cached),
    second.documents!.read('', 'lamp')!.tokens,
  );
});
