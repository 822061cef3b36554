/** Blending behind the whole service, over the tiny chat model: what is reused, whom it may reach, what it leaves. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import { SELECTORS, type SelectorName } from '#blend';
import { PROFILE_VERSION, writeProfile } from '../../src/calibration/profile.js';
import { type ErrorCode, RadixkvError } from '../../src/errors.js';
import { importModel } from '../../src/model/importer.js';
import { readManifest } from '../../src/model/manifest.js';
import {
  type CacheControl,
  type ChatMessage,
  DEFAULT_CACHE,
  type PromptDocument,
  tokensOf,
} from '../../src/serving/completion.js';
import {
  type Answer,
  type Ask,
  ask,
  type TestBackend,
  TINY_MODEL,
  TINY_TOKEN_BYTES,
  testBackend,
} from '../support/backend.js';

const CHUNK_TOKENS = 16;
/** Of what stands before a passage: an eighth of the tiny model's context. */
const CONTEXT_CHUNKS = 16;
const MIB = 2 ** 20;

const A = {
  id: 'a',
  title: 'The lamp',
  text: 'The lamp of the tower burns oil, and is lit at dusk by the keeper himself.',
};
const B = {
  id: 'b',
  title: 'The boat',
  text: 'A boat brings flour and letters on the first day of each month, if it can.',
};
const C = {
  id: 'c',
  title: undefined,
  text: 'Nobody has seen the northern stair since the winter in which it fell down.',
};
const QUESTION = 'When does the boat come?';

interface Question {
  readonly documents: readonly PromptDocument[];
  readonly cache?: Partial<CacheControl>;
  /** The user's and the assistant's, in turn. */
  readonly words?: readonly string[];
}

const SELECTOR_NAMES: readonly SelectorName[] = [
  'hkvd',
  'heads',
  'question',
  'hybrid',
  'random',
  'none',
  'all',
];

const BLEND = { mode: 'blend', explain: true } as const;

function question({ documents, cache, words = [QUESTION] }: Question, rest: Partial<Ask> = {}): Ask {
  const messages = words.map(
    (content, i): ChatMessage => ({ role: i % 2 === 0 ? 'user' : 'assistant', content }),
  );
  return {
    prompt: { kind: 'chat', messages, documents },
    promptField: 'messages',
    cache: { ...DEFAULT_CACHE, explain: true, ...cache },
    sampling: { topLogprobs: 0 },
    ...rest,
  };
}

const askAbout = (backend: TestBackend, what: Question, rest?: Partial<Ask>): Promise<Answer> =>
  ask(backend, question(what, rest));

/** Tokens as the tiny model reads a document: its bytes. */
const bytesOf = ({ title, text }: { readonly title: string | undefined; readonly text: string }): number =>
  Buffer.byteLength(`${title === undefined ? '' : `${title}\n`}${text}\n\n`);

function assertWhole({ usage }: Answer): void {
  const { promptTokens, cachedTokens, blendedTokens, computedTokens } = usage;
  assert.equal(tokensOf(cachedTokens) + tokensOf(blendedTokens) + computedTokens, promptTokens);
}

/** The tiny model, measured: recomputing the heads of documents is good enough from 0.3 on. */
async function measuredModel(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-measured-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  await importModel({ path: TINY_MODEL, directory, weights: 'float32' });
  const { fingerprint } = await readManifest(directory);
  const row = { selector: 'heads', sameBest: 1, recovered: 0.5 } as const;
  await writeProfile(directory, {
    version: PROFILE_VERSION,
    fingerprint,
    data: 'none',
    questions: 1,
    passages: 1,
    promptTokens: 1,
    answerTokens: 1,
    reuseKl: 1,
    rows: [
      { ...row, ratio: 0.1, kl: 0.2, klUpper: 0.3 },
      { ...row, ratio: 0.3, kl: 0.01, klUpper: 0.02 },
    ],
  });
  return directory;
}

async function assertRefusedField(
  code: ErrorCode,
  field: string,
  action: () => Promise<unknown>,
): Promise<void> {
  await assert.rejects(action, (error) => {
    assert(error instanceof RadixkvError, String(error));
    assert.deepEqual([error.code, error.param], [code, field]);
    return true;
  });
}

/** The chance of the first token, of which all the logits are part, up to the rounding of other tiles. */
function assertClose(a: Answer, b: Answer, tolerance = 1e-3): void {
  assert(Math.abs(a.logprobs[0]! - b.logprobs[0]!) <= tolerance, `${a.logprobs[0]} is not ${b.logprobs[0]}`);
}

suite('documents in a prompt', () => {
  test('are reused at other positions, and only some of their tokens are computed', async (t) => {
    const backend = await testBackend(t);
    await askAbout(backend, { documents: [A, B, C], cache: BLEND });
    const answer = await askAbout(backend, {
      documents: [C, A, B],
      cache: { ...BLEND, recomputeRatio: 0.25 },
    });
    assertWhole(answer);
    const reusable = [C, A, B].reduce((sum, document) => sum + bytesOf(document), 0);
    const recomputed = answer.explanation!.recomputed.length;
    assert.equal(recomputed, Math.round(0.25 * reusable));
    assert.deepEqual(answer.usage.blendedTokens, {
      device: 0,
      host: reusable - recomputed,
      disk: 0,
      remote: 0,
    });
    assert(answer.timings.blend !== undefined);
  });

  test('that are new are computed once, each alone, and kept', async (t) => {
    const backend = await testBackend(t);
    const first = await askAbout(backend, { documents: [A], cache: BLEND });
    assert.deepEqual(
      first.explanation!.documents.map(({ source }) => source),
      ['computed'],
    );
    assert.equal(tokensOf(first.usage.blendedTokens), 0);
    const second = await askAbout(backend, { documents: [B, A], cache: BLEND });
    assert.deepEqual(
      second.explanation!.documents.map(({ source }) => source),
      ['computed', 'host'],
    );
  });

  test('explain where each of their tokens came from', async (t) => {
    const backend = await testBackend(t);
    await askAbout(backend, { documents: [A], cache: BLEND });
    const { explanation, usage } = await askAbout(backend, { documents: [C, A], cache: BLEND });
    const { documents, recomputed, ...rest } = explanation!;
    assert.deepEqual(rest, {
      outcome: 'blended',
      selector: 'hybrid',
      ratio: 0.15,
      prefixTokens: tokensOf(usage.cachedTokens),
    });
    assert.deepEqual(
      documents.map(({ index, id, start, end, source }) => [index, id, end - start, source]),
      [
        [0, 'c', bytesOf(C), 'computed'],
        [1, 'a', bytesOf(A), 'host'],
      ],
    );
    assert.equal(documents[0]!.end, documents[1]!.start);
    assert(recomputed.every((position) => position >= documents[0]!.start && position < documents[1]!.end));
    assert.deepEqual(
      [...recomputed].toSorted((a, b) => a - b),
      recomputed,
    );
  });

  test('are not blended by auto while the quality of the model was never measured', async (t) => {
    const backend = await testBackend(t);
    const { explanation, usage } = await askAbout(backend, { documents: [A, B] });
    assert.equal(explanation!.outcome, 'not_profiled');
    assert.equal(usage.computedTokens, usage.promptTokens);
  });

  test('are blended by auto as the measurement of the model says', async (t) => {
    const modelDirectory = await measuredModel(t);
    const backend = await testBackend(t, { modelDirectory });
    const { explanation } = await askAbout(backend, { documents: [A, B] });
    const { outcome, selector, ratio } = explanation!;
    assert.deepEqual([outcome, selector, ratio], ['blended', 'heads', 0.3]);
    const strict = await testBackend(t, { modelDirectory, blendKlMax: 0.001 });
    assert.equal((await askAbout(strict, { documents: [A, B] })).explanation!.outcome, 'quality_bound');
  });

  test('of another tenant are computed anew', async (t) => {
    const backend = await testBackend(t);
    await askAbout(backend, { documents: [A, B], cache: BLEND });
    const other = await askAbout(backend, { documents: [B, A], cache: BLEND }, { namespace: 'f'.repeat(64) });
    assert.deepEqual(
      other.explanation!.documents.map(({ source }) => source),
      ['computed', 'computed'],
    );
    assert.equal(other.cached, 0);
  });

  test('that stand in an exact prefix are not blended', async (t) => {
    const backend = await testBackend(t);
    await askAbout(backend, { documents: [A, B], cache: { mode: 'exact' } });
    const same = await askAbout(backend, { documents: [A, B], cache: BLEND, words: [`${QUESTION} Say it.`] });
    assert.equal(same.explanation!.outcome, 'in_prefix');
    assert.equal(same.timings.blend, undefined);
    assert.deepEqual(
      same.explanation!.documents.map(({ source }) => source),
      ['prefix', 'prefix'],
    );
    const more = await askAbout(backend, { documents: [A, C], cache: BLEND });
    assert.equal(more.explanation!.outcome, 'blended');
    assert.equal(more.explanation!.documents[0]!.source, 'prefix');
    assert(more.explanation!.documents[0]!.end <= more.cached);
  });

  test('are blended by every selector', async (t) => {
    const backend = await testBackend(t);
    await askAbout(backend, { documents: [A, B, C], cache: BLEND });
    assert.deepEqual(SELECTOR_NAMES, Object.keys(SELECTORS));
    for (const selector of SELECTOR_NAMES) {
      const words = [`${QUESTION} ${selector}`];
      const cache = { ...BLEND, selector, recomputeRatio: 0.2 };
      const answer = await askAbout(backend, { documents: [B, C, A], cache, words });
      assert.equal(answer.explanation!.selector, selector);
      assert.deepEqual(
        answer.explanation!.documents.map(({ source }) => source),
        ['host', 'host', 'host'],
      );
      assertWhole(answer);
    }
  });
});

suite('a blended answer', () => {
  test('equals the exact one when everything is recomputed', async (t) => {
    const backend = await testBackend(t);
    await askAbout(backend, { documents: [A, B, C], cache: BLEND });
    const cache = { ...BLEND, recomputeRatio: 1 };
    const blended = await askAbout(backend, { documents: [C, B, A], cache });
    assert.equal(blended.explanation!.outcome, 'blended');
    const exact = await askAbout(
      backend,
      { documents: [C, B, A], cache: { mode: 'exact' } },
      { namespace: 'cold' },
    );
    assertClose(blended, exact);
  });

  test('differs from the exact one when nothing is recomputed, so that these tests can tell', async (t) => {
    const backend = await testBackend(t);
    const cache = { ...BLEND, recomputeRatio: 0 };
    const blended = await askAbout(backend, { documents: [C, B, A], cache });
    const exact = await askAbout(
      backend,
      { documents: [C, B, A], cache: { mode: 'exact' } },
      { namespace: 'cold' },
    );
    assert(Math.abs(blended.logprobs[0]! - exact.logprobs[0]!) > 1e-2);
  });

  test('is never part of an exact one', async (t) => {
    const backend = await testBackend(t);
    const cache = { ...BLEND, recomputeRatio: 0 };
    await askAbout(backend, { documents: [A, B, C], cache });
    await backend.scheduler.idle();
    for (const mode of ['exact', 'auto'] as const) {
      const namespace = `cold ${mode}`;
      const warm = await askAbout(backend, { documents: [A, B, C], cache: { mode } });
      const cold = await askAbout(backend, { documents: [A, B, C], cache: { mode: 'exact' } }, { namespace });
      assert.equal(warm.text, cold.text);
      assert.equal(warm.logprobs[0], cold.logprobs[0]);
      assert.equal(tokensOf(warm.usage.blendedTokens), 0);
    }
  });

  test('is gone on from in the next turn of its conversation, and nothing is recomputed', async (t) => {
    const backend = await testBackend(t);
    const documents = [A, B, C];
    const first = await askAbout(backend, { documents, cache: BLEND });
    await backend.scheduler.idle();
    const words = [QUESTION, first.text, 'And the letters?'];
    const second = await askAbout(backend, { documents, cache: BLEND, words });
    assertWhole(second);
    assert.equal(second.explanation!.outcome, 'in_prefix');
    assert.equal(second.timings.blend, undefined);
    assert(tokensOf(second.usage.blendedTokens) + second.cached >= first.usage.promptTokens);
    const other = await askAbout(backend, { documents, cache: BLEND, words: ['Who keeps the lamp?'] });
    assert.equal(other.explanation!.outcome, 'blended', 'another question has another blend');
  });

  test('is the same for each of several choices', async (t) => {
    const backend = await testBackend(t);
    const documents = [A, B];
    const { texts } = await askAbout(
      backend,
      { documents, cache: BLEND },
      { n: 3, sampling: { temperature: 0 } },
    );
    assert.equal(new Set(texts).size, 1);
    assert.equal(texts.length, 3);
  });
});

test('cache mode off reads nothing and leaves nothing', async (t) => {
  const backend = await testBackend(t);
  const before = await askAbout(backend, { documents: [A, B], cache: { mode: 'exact' } });
  const { chunks } = backend.cache.reading().prefixes!;
  const device = backend.cache.reading().device.bytes;
  const off = await askAbout(backend, {
    documents: [A, B],
    cache: { mode: 'off' },
    words: [QUESTION, '?', 'So?'],
  });
  assert.equal(off.cached, 0);
  assert.equal(off.explanation!.outcome, 'exact');
  assert.equal(backend.cache.reading().prefixes!.chunks, chunks);
  assert.equal(backend.cache.reading().device.bytes, device);
  const again = await askAbout(backend, { documents: [A, B], cache: { mode: 'off' } });
  assert.equal(again.text, before.text);
  assert.equal(again.cached, 0);
});

async function assertNothingHeld(backend: TestBackend): Promise<void> {
  await backend.scheduler.idle();
  assert.deepEqual(backend.cache.audit(), { activeRuns: 0, leases: 0 });
  assert.equal(backend.tap.samplers.size, 0);
  backend.cache.dropWarm();
  assert.equal(backend.tap.runTokens, 0);
}

suite('a blended request gives back all it holds', () => {
  const documents = [B, C, A];

  test('at whichever step it is aborted', async (t) => {
    const backend = await testBackend(t, { tileTokens: 32 });
    const { tap } = backend;
    await askAbout(backend, { documents: [A, B], cache: BLEND });
    const begun = tap.requests.length;
    await askAbout(backend, { documents, cache: BLEND });
    const steps = tap.requests.length - begun;
    assert(steps > 20);
    for (let step = 1; step < steps; step += 2) {
      const aborter = new AbortController();
      let left = step;
      tap.onRequest = () => {
        if (--left === 0) aborter.abort();
      };
      const words = [`${QUESTION} ${step}`];
      await askAbout(backend, { documents, cache: BLEND, words }, { signal: aborter.signal });
      tap.onRequest = () => {};
      await assertNothingHeld(backend);
    }
  });

  test('when the engine dies within it: it is blended again, and so is the next one', async (t) => {
    const backend = await testBackend(t, { tileTokens: 32 });
    const { tap } = backend;
    for (const op of ['scatter', 'rotate', 'score', 'prefillScattered'] as const) {
      tap.onRequest = (asked) => {
        if (asked.op !== op) return;
        tap.onRequest = () => {};
        void tap.worker!.terminate();
      };
      const hit = await askAbout(backend, { documents, cache: BLEND });
      assert.equal(hit.explanation!.outcome, 'blended');
      const next = await askAbout(backend, { documents, cache: BLEND, words: [op] });
      assert.equal(next.explanation!.outcome, 'blended');
      await assertNothingHeld(backend);
    }
  });
});

suite('what can not be blended is refused', () => {
  test('where the device has no room for it; auto computes it instead', async (t) => {
    const deviceBytes = 512 * TINY_TOKEN_BYTES;
    const backend = await testBackend(t, { deviceBytes, modelDirectory: await measuredModel(t) });
    const computed = await askAbout(backend, { documents: [A, B, C] });
    assert.equal(computed.explanation!.outcome, 'too_long');
    assert.equal(computed.usage.computedTokens, computed.usage.promptTokens);
    const tooLong = () => askAbout(backend, { documents: [A, B, C], cache: BLEND });
    await assertRefusedField('context_length_exceeded', 'documents', tooLong);
  });

  test('a document over the context, by its place', async (t) => {
    const backend = await testBackend(t);
    const long = { id: 'long', title: undefined, text: 'x'.repeat(2100) };
    const tooLong = () => askAbout(backend, { documents: [A, long], cache: BLEND });
    await assertRefusedField('context_length_exceeded', 'documents[1]', tooLong);
  });

  test('an id that names no document, by its place', async (t) => {
    const backend = await testBackend(t);
    const unknown = () => askAbout(backend, { documents: [A, { id: 'gone' }] });
    await assertRefusedField('document_not_found', 'documents[1].id', unknown);
  });
});

/** A backend whose disk has the passages A, B and C. */
async function restarted(t: TestContext): Promise<TestBackend> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-passages-'));
  const disk = { directory, capacityBytes: 64 * MIB, freeBytesMin: 0, codec: 'auto' } as const;
  const before = await testBackend(t, { disk });
  await askAbout(before, { documents: [A, B, C], cache: BLEND });
  await before.close();
  const after = await testBackend(t, { disk });
  await after.cache.opened;
  // Behind those that close what writes there.
  t.after(() => rm(directory, { recursive: true, force: true }));
  return after;
}

suite('passages outlive the process on disk', () => {
  test('and are read from there', async (t) => {
    const after = await restarted(t);
    const answer = await askAbout(after, { documents: [B, A], cache: BLEND });
    assert.deepEqual(
      answer.explanation!.documents.map(({ source }) => source),
      ['disk', 'disk'],
    );
    assert(answer.usage.blendedTokens.disk > 0);
    assertWhole(answer);
  });

  test('and while that takes long, the prompt is computed from its beginning', async (t) => {
    const backend = await restarted(t);
    const { cache, tap } = backend;
    const hiddenTokens = 90;
    let computed = 0;
    let arrive!: () => void;
    const arrived = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    const prefetch = cache.prefetch.bind(cache);
    cache.prefetch = (...args) => {
      const begun = prefetch(...args);
      assert(begun !== undefined && begun !== 'full');
      return { ...begun, hiddenTokens, done: begun.done.then(() => arrived) };
    };
    tap.onRequest = (asked) => {
      if (asked.op !== 'prefill') return;
      computed += asked.tokens.length;
      if (computed === hiddenTokens) arrive();
    };
    const documents = [B, A, C];
    const answer = await askAbout(backend, { documents, cache: BLEND });
    assert.equal(computed, hiddenTokens);
    const { documents: explained, recomputed } = answer.explanation!;
    const reused = explained.at(-1)!.end - hiddenTokens;
    assert.equal(tokensOf(answer.usage.blendedTokens) + recomputed.length, reused);
    assert(recomputed.every((position) => position >= hiddenTokens));
    assertWhole(answer);
  });
});

test('the tail of a passage fills its last chunk, what stands before it is shared, and no prompt finds either', async (t) => {
  const backend = await testBackend(t);
  await askAbout(backend, { documents: [A, C], cache: BLEND });
  const kept = backend.cache.reading().prefixes!.tiers.host!.classes;
  const own = Math.ceil(bytesOf(A) / CHUNK_TOKENS) + Math.ceil(bytesOf(C) / CHUNK_TOKENS);
  assert.equal(kept.segment!.chunks, CONTEXT_CHUNKS + own);
  const words = new TextEncoder().encode(`${A.title}\n${A.text}\n\n`);
  assert.equal(backend.cache.peek('', Int32Array.from([...words, 1])), 0);
});

test('a request that gives way and finds less when it goes on counts no token twice', async (t) => {
  const backend = await testBackend(t, { maxActive: 1, deviceBytes: 1536 * TINY_TOKEN_BYTES });
  const { tap } = backend;
  const words = [QUESTION];
  const first = await askAbout(backend, { documents: [A, B, C], cache: BLEND, words });
  const next = [...words, first.text, 'and then? '.repeat(20)];
  const began = new Promise<void>((resolve) => {
    tap.onRequest = ({ op }) => {
      if (op === 'prefill') resolve();
    };
  });
  const low = askAbout(backend, { documents: [A, B, C], cache: BLEND, words: next });
  await began;
  // It takes all of the device, so that what was blended is gone.
  await ask(backend, { prompt: 'x'.repeat(1400), maxTokens: 100, priority: -1 });
  const answer = await low;
  assert.equal(backend.scheduler.preemptions, 1);
  assert.equal(answer.explanation!.outcome, 'blended', 'it had to be blended again');
  assert(answer.usage.blendedTokens.device > 0, 'it had found a blended prompt');
  assertWhole(answer);
  const { promptTokens, computedTokens } = answer.usage;
  assert(computedTokens >= 200 && computedTokens < promptTokens, String(computedTokens));
});
