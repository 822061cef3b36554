/** The scheduler with the real engine on the tiny chat model: order, memory, aborts, failures, and that nothing is left. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { settledBytes } from '../../bench/settled.js';
import { seededRandom } from '../../src/engine/random.js';
import { tokensOf } from '../../src/serving/completion.js';
import {
  answerOf,
  ask,
  request,
  type TestBackend,
  TINY_CHUNK_BYTES,
  TINY_TOKEN_BYTES,
  testBackend,
} from '../support/backend.js';

const LONG = 'A long prompt that takes many tiles, during which other answers go on. '.repeat(12);
const refused = (code: string) => (error: unknown) =>
  error instanceof Error && 'code' in error && error.code === code;

/** Nothing is held once nothing is under way. */
async function assertNothingLeft(backend: TestBackend): Promise<void> {
  await backend.scheduler.idle();
  const { cache, scheduler, tap } = backend;
  assert.deepEqual(cache.audit(), { activeRuns: 0, leases: 0 });
  assert.equal(scheduler.active, 0);
  assert.equal(scheduler.queued, 0);
  assert.deepEqual([...tap.samplers], [], 'the worker holds no sampler');
  assert.equal(
    tap.runTokens * TINY_TOKEN_BYTES,
    cache.reading().device.bytes,
    'the worker holds the warm runs only',
  );
}

suite('the queue', () => {
  test('a request that comes while the last one ends is served', async (t) => {
    const backend = await testBackend(t);
    for (let i = 0; i < 30; i++) await ask(backend, { prompt: `${i}`, maxTokens: 1 });
    await assertNothingLeft(backend);
  });

  test('is first come, first served, and refuses what it has no place for with a time to retry', async (t) => {
    const backend = await testBackend(t, { maxActive: 1, maxQueue: 2 });
    const ended: number[] = [];
    const ask1 = async (i: number) => {
      const answer = await ask(backend, { prompt: `${i} ${LONG}`, maxTokens: 2 });
      ended.push(i);
      return answer;
    };
    const served = [0, 1, 2].map(ask1);
    await assert.rejects(
      ask1(3),
      (error) =>
        refused('queue_full')(error) &&
        error instanceof Error &&
        'retryAfterS' in error &&
        Number(error.retryAfterS) >= 1,
    );
    await Promise.all(served);
    assert.deepEqual(ended, [0, 1, 2]);
    await assertNothingLeft(backend);
  });

  test('gives a tenant no larger share for having many namespaces', async (t) => {
    const backend = await testBackend(t, { maxActive: 1 });
    const ended: string[] = [];
    const go = async (tenant: string, namespace: string) => {
      await ask(backend, { prompt: LONG, maxTokens: 1, tenant, namespace });
      ended.push(namespace);
    };
    await Promise.all([go('a', 'a'), go('a', 'a, salted'), go('a', 'a, salted again'), go('b', 'b')]);
    assert.deepEqual(ended, ['a', 'b', 'a, salted', 'a, salted again']);
    await assertNothingLeft(backend);
  });

  test('is bounded also while memory or the engine is what requests wait for', async (t) => {
    const backend = await testBackend(t, { maxActive: 4, maxQueue: 2, deviceBytes: 512 * TINY_TOKEN_BYTES });
    const all = await Promise.allSettled(
      Array.from({ length: 10 }, (_, i) =>
        ask(backend, { prompt: `${i} ${LONG.slice(0, 400)}`, maxTokens: 2 }),
      ),
    );
    assert.equal(all.filter(({ status }) => status === 'fulfilled').length, 6);
    await assertNothingLeft(backend);
  });

  test('goes on when the only active request ends with its first token', async (t) => {
    const backend = await testBackend(t, { maxActive: 1 });
    const texts = ['one', 'two', 'three'];
    await Promise.all(texts.map((prompt) => ask(backend, { prompt, maxTokens: 1 })));
    await assertNothingLeft(backend);
  });

  test('a request that waits for the prefix of another one does not hold up those behind it', async (t) => {
    const backend = await testBackend(t);
    const order: string[] = [];
    const go = async (name: string, prompt: string) => {
      await ask(backend, { prompt, maxTokens: 1 });
      order.push(name);
    };
    await Promise.all([go('first', LONG), go('same', `${LONG}!`), go('other', 'short')]);
    assert.deepEqual(order.toSorted(), ['first', 'other', 'same']);
    assert.equal(order.at(-1), 'same');
  });
});

suite('while a long prompt is prefilled', () => {
  test('every running answer gets a token between two tiles', async (t) => {
    const backend = await testBackend(t);
    const { tap } = backend;
    const running = ask(backend, { prompt: 'short', maxTokens: 60 });
    await new Promise<void>((resolve) => {
      tap.onRequest = ({ op }) => {
        if (op === 'decode') resolve();
      };
    });
    const from = tap.requests.length;
    await ask(backend, { prompt: LONG, maxTokens: 1 });
    const ops = tap.requests
      .slice(from)
      .flatMap(({ op }) => (op === 'prefill' || op === 'decode' ? [op] : []));
    const tiles = ops.filter((op) => op === 'prefill').length;
    assert(tiles >= 12);
    const alternating = ops.join(' ').match(/prefill decode(?= prefill)/g)!.length;
    assert(alternating >= tiles - 2);
    await running;
  });
});

/** Of each decode request so far: the runs it has a row of, and how many rows these have in common. */
const decodesOf = ({ tap }: TestBackend) =>
  tap.requests.flatMap((asked) =>
    asked.op === 'decode' ? [{ runs: asked.rows.map(({ run }) => run), sharedRows: asked.sharedRows }] : [],
  );

suite('running answers', () => {
  const asks = [
    { prompt: 'one', maxTokens: 30 },
    { prompt: 'another one, longer', maxTokens: 12 },
    { prompt: 'two answers', maxTokens: 20, n: 2, sampling: { temperature: 1, seed: 4 } },
    { prompt: 'x', maxTokens: 25 },
  ];

  test('are decoded together, those of all requests, and equal themselves alone', async (t) => {
    const alone = [];
    const other = await testBackend(t);
    for (const what of asks) alone.push((await ask(other, what)).texts);
    // Nothing is known yet of how long batches take, and they are tried.
    const backend = await testBackend(t);
    const together = await Promise.all(asks.map((what) => ask(backend, what)));
    assert.deepEqual(
      together.map(({ texts }) => texts),
      alone,
    );
    const steps = decodesOf(backend);
    assert(steps.some(({ runs }) => runs.length > 1));
    for (const { runs } of steps) assert.equal(new Set(runs).size, runs.length);
    await assertNothingLeft(backend);
  });

  test('with a prefix in common read and hold it once, and equal themselves alone', async (t) => {
    const system = 'All of them begin with this, and then go on each in its own way. '.repeat(10);
    const all = ['first', 'second', 'third one', 'x'].map((end) => ({
      prompt: system + end,
      maxTokens: 24,
    }));
    const alone = [];
    const cold = await testBackend(t);
    for (const what of all) {
      alone.push((await ask(cold, { ...what, namespace: what.prompt })).text);
    }
    const backend = await testBackend(t, { maxActive: 8 });
    let shared = { tokens: 0, logicalTokens: 0 };
    backend.tap.onRequest = (asked) => {
      backend.cache.audit();
      if (asked.op !== 'decode' || backend.scheduler.active < all.length) return;
      const { bytes, logicalBytes } = backend.cache.reading().device;
      shared = { tokens: bytes / TINY_TOKEN_BYTES, logicalTokens: logicalBytes / TINY_TOKEN_BYTES };
    };
    const together = await Promise.all(all.map((what) => ask(backend, what)));
    assert.deepEqual(
      together.map(({ text }) => text),
      alone,
    );
    const widest = decodesOf(backend).filter(({ runs }) => runs.length === all.length);
    assert(widest.some(({ sharedRows }) => sharedRows > 600));
    assert(shared.tokens < 768 + 4 * 256 && shared.logicalTokens > 4 * 640, JSON.stringify(shared));
    await assertNothingLeft(backend);
  });

  test('go on unchanged when one of them is aborted, or can not be drawn from', async (t) => {
    const backend = await testBackend(t);
    const what = { prompt: 'it goes on', maxTokens: 40 };
    const { text } = await ask(backend, what);
    const aborter = new AbortController();
    // The only token it may draw is ruled out once drawn.
    const logitBias = new Map(Array.from({ length: 259 }, (_, token) => [token, -Infinity] as const));
    logitBias.set(97, 0);
    const stuck = { prompt: 'stuck', maxTokens: 9, sampling: { logitBias, frequencyPenalty: Infinity } };
    backend.tap.onRequest = (asked) => {
      if (asked.op === 'decode' && backend.scheduler.active === 3) aborter.abort();
    };
    const going = [0, 1].map((i) => ask(backend, { ...what, namespace: `${i}` }));
    const aborted = ask(backend, { prompt: 'it ends', maxTokens: 40, signal: aborter.signal });
    await assert.rejects(ask(backend, stuck), refused('engine_failed'));
    for (const answer of await Promise.all(going)) assert.equal(answer.text, text);
    assert((await aborted).usage.completionTokens < 40);
    assert.equal(backend.service.ready().ready, true);
    await assertNothingLeft(backend);
  });
});

suite('memory', () => {
  test('a prompt that can never fit is refused by name', async (t) => {
    const backend = await testBackend(t, { deviceBytes: 512 * TINY_TOKEN_BYTES });
    await assert.rejects(ask(backend, { prompt: LONG }), refused('context_length_exceeded'));
    await assertNothingLeft(backend);
  });

  test('an answer that fits is never cut short for want of memory to grow', async (t) => {
    for (const capacityTokens of [768, 1280]) {
      const backend = await testBackend(t, { deviceBytes: capacityTokens * TINY_TOKEN_BYTES });
      const maxTokens = capacityTokens - 10;
      const logitBias = new Map([[97, 100]]);
      const { usage, text } = await ask(backend, { prompt: 'short', maxTokens, sampling: { logitBias } });
      assert.equal(usage.completionTokens, maxTokens);
      assert.equal(text, 'a'.repeat(maxTokens));
      await assertNothingLeft(backend);
    }
  });

  test('an answer that outgrows its run equals one that never had to', async (t) => {
    const backend = await testBackend(t);
    const what = {
      prompt: 'it grows and grows',
      maxTokens: 1000,
      sampling: {
        temperature: 1,
        seed: 3,
        logitBias: new Map([
          [258, -100],
          [256, -100],
        ]),
      },
    };
    const grown = await ask(backend, what);
    const large = await testBackend(t, { deviceBytes: 1280 * TINY_TOKEN_BYTES });
    const whole = await ask(large, what);
    assert.equal(backend.tap.requests.filter(({ op }) => op === 'copyRun').length, 2);
    assert.equal(large.tap.requests.filter(({ op }) => op === 'copyRun').length, 0);
    assert.equal(grown.text, whole.text);
  });

  test('answers of one request are forked from its prompt, and differ', async (t) => {
    const backend = await testBackend(t);
    const what = { prompt: 'three answers', n: 3, sampling: { temperature: 1, seed: 1 } };
    const { texts, reasons, usage } = await ask(backend, what);
    assert.equal(new Set(texts).size, 3);
    assert.equal(reasons.length, 3);
    assert.equal(usage.promptTokens, 'three answers'.length);
    assert.deepEqual((await ask(backend, what)).texts, texts, 'one seed repeats them');
    await assertNothingLeft(backend);
  });

  test('more answers than memory holds fail with a status that says so, before any text', async (t) => {
    const backend = await testBackend(t, { deviceBytes: 512 * TINY_TOKEN_BYTES });
    const events = backend.service.complete(request({ prompt: 'too many', n: 4 }));
    const seen: string[] = [];
    const reading = async () => {
      for await (const { type } of events) seen.push(type);
    };
    await assert.rejects(reading(), refused('device_memory_full'));
    assert.deepEqual(seen, []);
    await assertNothingLeft(backend);
    await ask(backend, { prompt: 'it goes on' });
  });
});

/** An answer of letters that never ends by itself. */
const ENDLESS = new Map([
  [256, -100],
  [257, -100],
  [258, -100],
]);

const long = (prompt: string) => ({
  prompt,
  maxTokens: 500,
  sampling: { temperature: 1, seed: 7, logitBias: ENDLESS },
});

suite('a request that gives way', () => {
  const asks = [long('one'), long('another, of a longer prompt'), { ...long('two answers'), n: 2 }];

  for (const { what, hostBytes } of [
    { what: 'goes on from host memory where it stopped', hostBytes: 256 * TINY_CHUNK_BYTES },
    { what: 'is computed again where host memory has no room', hostBytes: 6 * TINY_CHUNK_BYTES },
  ]) {
    test(`since others outgrow the device ${what}`, async (t) => {
      const roomy = await testBackend(t);
      const alone = [];
      for (const each of asks) alone.push((await ask(roomy, each)).texts);
      const backend = await testBackend(t, { deviceBytes: 2048 * TINY_TOKEN_BYTES, hostBytes });
      const together = await Promise.all(asks.map((each) => ask(backend, each)));
      assert(backend.scheduler.preemptions > 0);
      assert.deepEqual(
        together.map(({ texts }) => texts),
        alone,
      );
      for (const { usage, cached } of together)
        assert.equal(cached + usage.computedTokens, usage.promptTokens);
      await assertNothingLeft(backend);
    });
  }

  test('since a more important one comes is served after it, and equals one that did not', async (t) => {
    const roomy = await testBackend(t);
    const [low, high] = [long('it can wait'), { prompt: 'now', maxTokens: 5, priority: -1 }];
    const alone = [(await ask(roomy, low)).text, (await ask(roomy, high)).text];
    const backend = await testBackend(t, { maxActive: 1 });
    const ended: string[] = [];
    const noted = async (name: string, answer: ReturnType<typeof ask>) => {
      const { text } = await answer;
      ended.push(name);
      return text;
    };
    const first = noted('low', ask(backend, low));
    await decoding(backend);
    const second = noted('high', ask(backend, high));
    const third = noted('as low', ask(backend, { prompt: 'later', maxTokens: 5 }));
    assert.deepEqual(await Promise.all([first, second]), alone);
    await third;
    assert.deepEqual(ended, ['high', 'low', 'as low']);
    assert.equal(backend.scheduler.preemptions, 1);
    await assertNothingLeft(backend);
  });

  test('before its first token finds what it computed, and does not call it cached', async (t) => {
    const backend = await testBackend(t, { maxActive: 1 });
    const { tap } = backend;
    const low = ask(backend, { prompt: LONG, maxTokens: 2 });
    await new Promise<void>((resolve) => {
      tap.onRequest = ({ op }) => {
        if (op === 'seal') resolve();
      };
    });
    await ask(backend, { prompt: 'now', maxTokens: 2, priority: -1 });
    const { usage } = await low;
    assert.equal(backend.scheduler.preemptions, 1);
    assert.equal(usage.computedTokens, LONG.length);
    const prefilled = tap.requests.flatMap((asked) => (asked.op === 'prefill' ? [asked.tokens.length] : []));
    const all = prefilled.reduce((sum, tokens) => sum + tokens, 0);
    assert(all < LONG.length + 100, `${all} tokens were prefilled`);
    await assertNothingLeft(backend);
  });

  test('before its first token and is aborted tells what it had computed', async (t) => {
    const backend = await testBackend(t, { maxActive: 1 });
    const { tap } = backend;
    const aborter = new AbortController();
    const low = ask(backend, { prompt: LONG, maxTokens: 2, signal: aborter.signal });
    await new Promise<void>((resolve) => {
      tap.onRequest = ({ op }) => {
        if (op === 'seal') resolve();
      };
    });
    const high = ask(backend, { ...long('now'), priority: -1 });
    await decoding(backend);
    assert.equal(backend.scheduler.preemptions, 1);
    aborter.abort();
    const { usage } = await low;
    assert(usage.computedTokens >= 64 && usage.computedTokens < LONG.length, String(usage.computedTokens));
    assert.equal(usage.promptTokens, usage.computedTokens);
    await high;
    await assertNothingLeft(backend);
  });

  test('and is aborted leaves nothing, and whose engine dies meanwhile goes on', async (t) => {
    const backend = await testBackend(t, { maxActive: 1 });
    const aborter = new AbortController();
    const aborted = ask(backend, { ...long('it is aborted'), signal: aborter.signal });
    await decoding(backend);
    const high = ask(backend, { ...long('high'), priority: -1 });
    await decoding(backend);
    aborter.abort();
    assert((await aborted).usage.completionTokens > 0);
    const low = ask(backend, { ...long('it is lost'), priority: -1 });
    const higher = ask(backend, { ...long('higher'), priority: -2 });
    await decoding(backend);
    void backend.tap.worker!.terminate();
    const answers = await Promise.all([high, higher, low]);
    // The last one had not begun.
    assert.equal(backend.scheduler.retries, 2);
    const other = await testBackend(t);
    for (const [i, what] of ['high', 'higher', 'it is lost'].entries()) {
      assert.equal(answers[i]!.text, (await ask(other, long(what))).text);
    }
    await assertNothingLeft(backend);
  });
});

/** Resolves at the next decode step. */
function decoding({ tap }: TestBackend): Promise<void> {
  return new Promise((resolve) => {
    tap.onRequest = ({ op }) => {
      if (op === 'decode') resolve();
    };
  });
}

suite('a deadline', () => {
  test('that is over before the first token is a 504, and nothing is computed for it', async (t) => {
    const backend = await testBackend(t, { maxActive: 1 });
    const running = ask(backend, { prompt: 'first', maxTokens: 500, sampling: { logitBias: ENDLESS } });
    await decoding(backend);
    const late = ask(backend, { prompt: `${LONG} too late`, deadlineMs: 5 });
    const inTime = ask(backend, { prompt: 'in time', maxTokens: 2, deadlineMs: 600_000 });
    await assert.rejects(late, refused('deadline_exceeded'));
    assert.equal(backend.scheduler.active, 1, 'it does not wait for others to end');
    await Promise.all([running, inTime]);
    const prefills = backend.tap.requests.filter(
      (asked) => asked.op === 'prefill' && asked.samplers.length > 0,
    );
    assert.equal(prefills.length, 2);
    await assertNothingLeft(backend);
  });
});

suite('whatever becomes of requests', () => {
  const step = fc.record({
    prefix: fc.nat(2),
    length: fc.integer({ min: 1, max: 200 }),
    n: fc.constantFrom(1, 1, 1, 2),
    maxTokens: fc.integer({ min: 1, max: 30 }),
    namespace: fc.constantFrom('', 'b'),
    priority: fc.constantFrom(0, 0, 0, -1, 1),
    deadlineMs: fc.constantFrom(undefined, undefined, undefined, 5),
    /** Engine requests after which it is aborted; 0: at once. */
    abortAfter: fc.option(fc.nat(40), { nil: undefined }),
    waits: fc.boolean(),
  });

  test('budgets hold all the time, usage adds up, and in the end nothing is left', async (t) => {
    const backend = await testBackend(t, {
      deviceBytes: 1024 * TINY_TOKEN_BYTES,
      hostBytes: 12 * TINY_CHUNK_BYTES,
      maxActive: 3,
      tileTokens: 32,
    });
    const { cache, tap } = backend;
    const countdowns = new Map<AbortController, number>();
    tap.onRequest = () => {
      assert(
        tap.runTokens * TINY_TOKEN_BYTES <= 1024 * TINY_TOKEN_BYTES,
        'the device budget holds in the worker',
      );
      cache.audit();
      const { host } = cache.reading().prefixes!.tiers;
      assert(host!.bytes <= host!.capacityBytes);
      for (const [aborter, left] of countdowns) {
        countdowns.set(aborter, left - 1);
        if (left <= 0) aborter.abort();
      }
    };
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 10 }), async (steps) => {
        const running: Promise<unknown>[] = [];
        for (const { prefix, length, n, maxTokens, abortAfter, waits, ...rest } of steps) {
          const aborter = new AbortController();
          if (abortAfter === 0) aborter.abort();
          else if (abortAfter !== undefined) countdowns.set(aborter, abortAfter);
          const prompt = `${prefix}`.repeat(length);
          const read = async () => {
            const { usage, cached } = await ask(backend, {
              prompt,
              n,
              maxTokens,
              ...rest,
              signal: aborter.signal,
            });
            assert.equal(cached + usage.computedTokens, usage.promptTokens);
            assert(usage.promptTokens === length || (aborter.signal.aborted && usage.promptTokens < length));
          };
          const answer = read().catch((error: unknown) =>
            assert(
              refused('device_memory_full')(error) || refused('deadline_exceeded')(error),
              String(error),
            ),
          );
          running.push(answer);
          if (waits) await answer;
        }
        await Promise.all(running);
        countdowns.clear();
        await assertNothingLeft(backend);
      }),
      // What a failure leaves behind would fail every smaller example too.
      { numRuns: 60, endOnFailure: true },
    );
  });

  test('of 200 requests at once a third is aborted at random moments: the others are served, and nothing is left', async (t) => {
    const backend = await testBackend(t, {
      maxActive: 16,
      maxQueue: 200,
      deviceBytes: 8192 * TINY_TOKEN_BYTES,
    });
    const { tap, cache } = backend;
    const random = seededRandom(12);
    const round = async (): Promise<number> => {
      const countdowns = new Map<AbortController, number>();
      tap.onRequest = ({ op }) => {
        if (op !== 'decode') return;
        for (const [aborter, left] of countdowns) {
          countdowns.set(aborter, left - 1);
          if (left <= 0) aborter.abort();
        }
      };
      const answers = Array.from({ length: 200 }, async (_, i) => {
        const aborter = new AbortController();
        const isAborted = i % 3 === 0;
        if (isAborted) countdowns.set(aborter, Math.floor(random() * 120));
        const prompt = `${LONG.slice(0, Math.floor(random() * 300))} ${i}`;
        const answer = await ask(backend, {
          prompt,
          maxTokens: 12,
          signal: aborter.signal,
          sampling: { logitBias: ENDLESS },
        });
        if (!isAborted) assert.equal(answer.usage.completionTokens, 12);
        return aborter.signal.aborted && answer.usage.completionTokens < 12;
      });
      const cut = (await Promise.all(answers)).filter(Boolean).length;
      await assertNothingLeft(backend);
      cache.dropWarm();
      tap.requests.length = 0;
      return cut;
    };
    const rounds = async (count: number) => {
      for (let i = 0; i < count; i++) assert((await round()) > 30);
      return { settled: settledBytes(), resident: process.memoryUsage().rss };
    };
    const before = await rounds(3);
    const after = await rounds(3);
    const [settled, resident] = [after.settled - before.settled, after.resident - before.resident];
    assert(settled < 8 * 1024 ** 2, `${settled} bytes more in use`);
    assert(resident < 128 * 1024 ** 2, `${resident} bytes more resident`);
  });

  for (const op of ['prefill', 'decode', 'seal', 'load', 'copyRun'] as const) {
    test(`the engine's death during ${op} is survived: what it hit goes on where it was, from host memory`, async (t) => {
      const backend = await testBackend(t);
      const { tap, service, cache, scheduler } = backend;
      const prompt = LONG.slice(0, 300);
      const what = { prompt, n: 2, maxTokens: 6, sampling: { temperature: 1, seed: 5, topLogprobs: 0 } };
      const before = await ask(backend, what);
      const hit = op === 'copyRun' || op === 'load' ? what : { ...what, prompt: `${op} ${prompt}` };
      const undisturbed = await ask(backend, { ...hit, namespace: 'undisturbed' });
      await scheduler.idle();
      if (op === 'load') cache.dropWarm();
      let killed = false;
      tap.onRequest = (asked) => {
        if (asked.op !== op || killed) return;
        killed = true;
        void tap.worker!.terminate();
      };
      const waiting = ask(backend, { prompt: 'x', namespace: 'other' });
      const answer = await ask(backend, hit);
      assert.equal(killed, true);
      assert.equal(tap.workers, 2);
      assert(scheduler.retries >= 1);
      assert.deepEqual([answer.texts, answer.reasons], [undisturbed.texts, undisturbed.reasons]);
      assert.equal(answer.usage.completionTokens, undisturbed.usage.completionTokens);
      await waiting;
      const after = await ask(backend, what);
      assert.equal(service.ready().ready, true);
      assert(tokensOf(after.usage.cachedTokens) >= 288);
      assert.deepEqual(after.texts, before.texts);
      assert.equal(after.logprobs[0], before.logprobs[0]);
      await assertNothingLeft(backend);
    });
  }

  test('an answer that is streamed goes on after the death of the engine, with its penalties, no text twice', async (t) => {
    const backend = await testBackend(t);
    const { tap } = backend;
    const what = { prompt: LONG.slice(0, 100), maxTokens: 24, sampling: { frequencyPenalty: 1 } };
    const undisturbed = await ask(backend, { ...what, namespace: 'undisturbed' });
    for (const steps of [1, 7, 23]) {
      let left = steps;
      tap.onRequest = ({ op }) => {
        if (op === 'decode' && --left === 0) void tap.worker!.terminate();
      };
      const answer = await ask(backend, { ...what, namespace: `${steps}` });
      assert.deepEqual([answer.text, answer.usage.completionTokens], [undisturbed.text, 24]);
    }
    assert.equal(tap.workers, 4);
    await assertNothingLeft(backend);
  });

  test('what the engine dies of twice is a 503, and not tried a third time', async (t) => {
    const backend = await testBackend(t);
    const { tap, scheduler } = backend;
    tap.onRequest = ({ op }) => {
      if (op === 'prefill') void tap.worker!.terminate();
    };
    await assert.rejects(ask(backend, { prompt: LONG }), refused('engine_failed'));
    assert.equal(scheduler.retries, 1);
    tap.onRequest = () => {};
    await ask(backend, { prompt: LONG });
    assert.equal(tap.workers, 3);
    await assertNothingLeft(backend);
  });

  test('requests fail while the engine can not start, and it is tried again until it can', async (t) => {
    const backend = await testBackend(t);
    const { tap, service } = backend;
    tap.broken = 3;
    tap.onRequest = () => void tap.worker!.terminate();
    await assert.rejects(ask(backend, { prompt: 'when it dies' }), refused('engine_failed'));
    tap.onRequest = () => {};
    for (const attempt of [1, 2]) {
      await assert.rejects(ask(backend, { prompt: `attempt ${attempt}` }), refused('engine_failed'));
      assert.equal(service.ready().ready, false);
    }
    await ask(backend, { prompt: 'it is back' });
    await assertNothingLeft(backend);
  });

  test('what is under way when the scheduler closes fails, and what comes later is refused', async (t) => {
    const backend = await testBackend(t);
    const running = [1, 2, 3].map((i) => ask(backend, { prompt: `${i} ${LONG}`, n: 2 }));
    const failed = Promise.all(running.map((answer) => assert.rejects(answer, refused('shutting_down'))));
    await new Promise<void>((resolve) => {
      backend.tap.onRequest = () => resolve();
    });
    await backend.close();
    await failed;
    await assert.rejects(ask(backend, { prompt: 'late' }), refused('shutting_down'));
  });
});

suite('an answer', () => {
  const seeded = {
    temperature: 1,
    seed: 7,
    logitBias: new Map([
      [258, -100],
      [256, -100],
      [257, -100],
    ]),
  };

  test('repeats with its seed, and changes with another', async (t) => {
    const backend = await testBackend(t);
    const of = async (seed: number) =>
      (await ask(backend, { prompt: 'seeds', maxTokens: 20, sampling: { ...seeded, seed } })).text;
    assert.equal(await of(1), await of(1));
    assert.notEqual(await of(1), await of(2));
  });

  test('ends at max_tokens, at the end of the context, and before a stop string', async (t) => {
    const backend = await testBackend(t);
    const logitBias = new Map([[97, 100]]);
    const short = await ask(backend, { prompt: 'x', maxTokens: 5, sampling: { logitBias } });
    assert.deepEqual([short.text, short.reasons, short.usage.completionTokens], ['aaaaa', ['length'], 5]);
    const full = await ask(backend, {
      prompt: 'x'.repeat(2000),
      maxTokens: undefined,
      sampling: { logitBias },
    });
    assert.deepEqual([full.text, full.reasons], ['a'.repeat(48), ['length']]);
    await assert.rejects(ask(backend, { prompt: 'x'.repeat(2048) }), refused('context_length_exceeded'));
    const { text } = await ask(backend, { prompt: 'x', maxTokens: 40, sampling: seeded });
    const stop = Array.from(text).slice(10, 13).join('');
    const stopped = await ask(backend, { prompt: 'x', maxTokens: 40, sampling: seeded, stop: [stop] });
    assert.deepEqual([stopped.text, stopped.reasons], [text.slice(0, text.indexOf(stop)), ['stop']]);
  });

  test('has the log probabilities of the tokens in its text, also when text was held back', async (t) => {
    const backend = await testBackend(t);
    const logitBias = new Map([[97, 100]]);
    const what = { prompt: 'x', maxTokens: 9, sampling: { logitBias, topLogprobs: 2 } };
    const open = await ask(backend, what);
    assert.equal(open.tokens.join(''), open.text);
    const held = await ask(backend, { ...what, stop: ['aaab'] });
    assert.equal(held.tokens.join(''), held.text);
    assert.deepEqual(held.logprobs, open.logprobs);
    const events = backend.service.complete(request({ ...what, stop: ['aaab'] }));
    for await (const event of events) {
      if (event.type !== 'delta') continue;
      assert.equal(event.logprobs!.map(({ token }) => token).join(''), event.text);
    }
    const stopped = await answerOf(backend.service.complete(request({ ...what, stop: ['aaa'] })));
    assert.deepEqual([stopped.text, stopped.tokens], ['', []]);
  });

  test('heeds penalties', async (t) => {
    const backend = await testBackend(t);
    const logitBias = new Map([
      [97, 75],
      [98, 65],
    ]);
    const of = async (frequencyPenalty: number) =>
      (await ask(backend, { prompt: 'x', maxTokens: 8, sampling: { logitBias, frequencyPenalty } })).text;
    assert.equal(await of(0), 'aaaaaaaa');
    assert.match(await of(2), /b/);
  });
});
