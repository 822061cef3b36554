/** K1 and friends over the tiny chat model: an answer is the same wherever the rows of its prompt came from. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { slotBytes } from '#storage';
import { type Answer, ask, TINY_CHUNK_BYTES, TINY_TOKEN_BYTES, testBackend } from '../support/backend.js';

const TURNS = 3;
const SYSTEM = 'You are terse, and you answer every question with whatever bytes come to mind. '.repeat(2);

/** The user's words of a turn; lengths differ, so that chunks and tiles are cut everywhere. */
function question(conversation: number, turn: number): string {
  return `${conversation}/${turn}: ${'why so? '.repeat(1 + ((conversation * 7 + turn * 3) % 11))}`;
}

interface Spoken {
  readonly messages: readonly string[];
  readonly answer: Answer;
}

/** Holds a conversation: each answer becomes part of the next prompt. `between` runs after each turn. */
async function converse(
  conversation: number,
  reply: (messages: readonly string[], turn: number) => Promise<Answer>,
  between: () => Promise<void> = async () => {},
): Promise<Spoken[]> {
  const spoken: Spoken[] = [];
  let messages: string[] = [];
  for (let turn = 0; turn < TURNS; turn++) {
    messages = [...messages, `${turn === 0 ? SYSTEM : ''}${question(conversation, turn)}`];
    const answer = await reply(messages, turn);
    spoken.push({ messages, answer });
    messages = [...messages, answer.text];
    await between();
  }
  return spoken;
}

const LOGPROBS = { sampling: { topLogprobs: 0 }, maxTokens: 24 };

const CHUNK_TOKENS = 16;
const wholeChunks = (tokens: number): number => tokens - (tokens % CHUNK_TOKENS);

/** Asserts bit-equal text and numbers; the log probabilities tell more than the text. */
function assertSame(warm: Answer, cold: Answer): void {
  assert.equal(warm.text, cold.text);
  assert.deepEqual(
    warm.logprobs.slice(0, 1),
    cold.logprobs.slice(0, 1),
    'first logits are equal bit for bit',
  );
}

suite('an answer equals the answer without a cache', () => {
  for (const [settled, conversations] of [
    [true, 100],
    [false, 25],
  ] as const) {
    test(`over conversations whose answers are ${settled ? '' : 'not '}settled between turns`, async (t) => {
      const backend = await testBackend(t);
      for (let conversation = 0; conversation < conversations; conversation++) {
        const turns = await converse(
          conversation,
          (prompt) => ask(backend, { prompt, ...LOGPROBS }),
          () => (settled ? backend.scheduler.idle() : Promise.resolve()),
        );
        for (const [turn, { messages, answer }] of turns.entries()) {
          const cold = await ask(backend, {
            prompt: messages,
            namespace: `cold ${conversation} ${turn}`,
            ...LOGPROBS,
          });
          assert.equal(cold.cached, 0);
          assertSame(answer, cold);
          if (turn > 0) assert(answer.cached > SYSTEM.length);
        }
      }
    });
  }

  test('when answers were settled, their tokens are reused too', async (t) => {
    const backend = await testBackend(t);
    const [first, second] = await converse(
      0,
      (prompt) => ask(backend, { prompt, maxTokens: 24 }),
      () => backend.scheduler.idle(),
    );
    assert(second!.answer.cached > first!.answer.usage.promptTokens);
  });

  test('after its rows went to the host tier and came back', async (t) => {
    const backend = await testBackend(t, { deviceBytes: 1024 * TINY_TOKEN_BYTES });
    let fromHost = 0;
    for (let conversation = 0; conversation < 20; conversation++) {
      await converse(
        conversation,
        async (prompt, turn) => {
          const answer = await ask(backend, { prompt, ...LOGPROBS });
          const cold = await ask(backend, {
            prompt,
            namespace: `cold ${conversation} ${turn}`,
            ...LOGPROBS,
          });
          assertSame(answer, cold);
          fromHost += answer.usage.cachedTokens.host;
          return answer;
        },
        () => backend.scheduler.idle(),
      );
    }
    assert(fromHost > 1000);
    assert(backend.cache.reading().evictions.find(({ tier }) => tier === 'device')!.count > 20);
  });

  test('when a bit of a chunk in host memory flips, which is a miss and is repaired', async (t) => {
    const backend = await testBackend(t);
    const prompt = 'a prompt that fills several chunks of host memory, with some tokens left at the end.';
    const options = { prompt, ...LOGPROBS };
    const cold = await ask(backend, options);
    await backend.scheduler.idle();
    const evictAll = () => backend.cache.dropWarm();
    evictAll();
    slotBytes(backend.tap.slab!, 1)[100]! ^= 4;
    const damaged = await ask(backend, options);
    assert.deepEqual(damaged.usage.cachedTokens, { device: 0, host: 16, disk: 0, remote: 0 });
    assertSame(damaged, cold);
    const { prefixes, evictions } = backend.cache.reading();
    assert.equal(evictions.find(({ reason }) => reason === 'corrupt')?.count, 1);
    assert.equal(prefixes!.tiers.host!.bytes, prefixes!.treeChunks * TINY_CHUNK_BYTES);
    evictAll();
    const repaired = await ask(backend, options);
    assert.equal(repaired.usage.cachedTokens.host, prompt.length - 1);
    assertSame(repaired, cold);
  });

  test('without a host tier', async (t) => {
    const backend = await testBackend(t, { hostBytes: 0 });
    const prompt = 'nothing outlives its run, but a warm run is used again';
    const cold = await ask(backend, { prompt, ...LOGPROBS });
    const warm = await ask(backend, { prompt, ...LOGPROBS });
    assert.deepEqual(warm.usage.cachedTokens, { device: prompt.length - 1, host: 0, disk: 0, remote: 0 });
    assertSame(warm, cold);
  });

  test('in the length of the prompt, whatever it is', async (t) => {
    const backend = await testBackend(t, { deviceBytes: 512 * TINY_TOKEN_BYTES });
    const text = 'Every length has its own last chunk, its own last tile and its own padding row. '.repeat(3);
    for (let length = 1; length < text.length; length++) {
      const prompt = text.slice(0, length);
      const warm = await ask(backend, { prompt, ...LOGPROBS, maxTokens: 2 });
      const cold = await ask(backend, { prompt, ...LOGPROBS, maxTokens: 2, namespace: `cold ${length}` });
      assertSame(warm, cold);
      assert(warm.usage.computedTokens >= 1);
    }
  });
});

suite('tenants', () => {
  const prompt = 'the same words, asked by two tenants who must not learn of each other';
  for (const tier of ['device', 'host'] as const) {
    test(`never hit each other's rows in the ${tier} tier, but their own`, async (t) => {
      const backend = await testBackend(t);
      await ask(backend, { prompt, namespace: 'a' });
      await backend.scheduler.idle();
      if (tier === 'host') backend.cache.dropWarm();
      const other = await ask(backend, { prompt, namespace: 'b' });
      assert.equal(other.cached, 0);
      if (tier === 'host') backend.cache.dropWarm();
      const own = await ask(backend, { prompt, namespace: 'a' });
      const expected = tier === 'device' ? prompt.length - 1 : wholeChunks(prompt.length - 1);
      assert.equal(own.usage.cachedTokens[tier], expected);
    });
  }
});

suite('concurrent requests with one new prefix', () => {
  const prefix = 'a new and rather long prefix that nobody has asked about before, '.repeat(8);

  test('compute it once, up to a chunk', async (t) => {
    const backend = await testBackend(t);
    const answers = await Promise.all(
      [1, 2, 3].map((i) => ask(backend, { prompt: `${prefix}${i}`, maxTokens: 1 })),
    );
    assert(backend.tap.prefilled() <= prefix.length + 3 * CHUNK_TOKENS);
    assert.equal(answers.filter(({ cached }) => cached === 0).length, 1);
  });

  test('go on where the first one was aborted', async (t) => {
    const backend = await testBackend(t, { tileTokens: 32 });
    const aborter = new AbortController();
    let tiles = 0;
    backend.tap.onRequest = ({ op }) => {
      if (op === 'prefill' && ++tiles === 3) aborter.abort();
    };
    const [, second] = await Promise.all([
      ask(backend, { prompt: `${prefix}1`, signal: aborter.signal }),
      ask(backend, { prompt: `${prefix}2`, maxTokens: 1 }),
    ]);
    assert(second.cached >= 96);
    assert(backend.tap.prefilled() <= prefix.length + CHUNK_TOKENS);
    const alone = await ask(backend, { prompt: `${prefix}2`, maxTokens: 1, namespace: 'alone' });
    assert.equal(second.text, alone.text);
  });
});
