/**
 * K1 on the default model in its default format: 100 conversations of three turns, each turn asked with the cache and
 * again in a namespace of its own, where nothing is cached.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChatMessage } from '../../src/serving/completion.js';
import { type Answer, ask, type TestBackend, testBackend } from '../support/backend.js';
import { defaultModel } from '../support/default-model.js';

const CONVERSATIONS = 100;
const MIB = 1024 ** 2;

const SYSTEM = 'You are the patient assistant of a small library, and you answer in one short sentence.';
const THINGS = 'tea|rivers|chess|glass|bees|maps|bread|clocks|wool|stars'.split('|');
const QUESTIONS = [
  'Where does it come from?',
  'Who first wrote about it?',
  'Name one surprising fact.',
  'How would you explain it to a child of six?',
  'What is it good for?',
  'Which book should I read next? I have an hour.',
  'Is it old?',
];

function question(conversation: number, number: number): string {
  const asked = QUESTIONS[(conversation * 3 + number) % QUESTIONS.length]!;
  return number === 0
    ? `I want to learn about ${THINGS[conversation % 10]}, ${conversation}. ${asked}`
    : asked;
}

function turn(backend: TestBackend, messages: readonly ChatMessage[], namespace: string): Promise<Answer> {
  const prompt = { kind: 'chat', messages, documents: [] } as const;
  return ask(backend, { prompt, namespace, maxTokens: 6, sampling: { topLogprobs: 5 } });
}

test('on the default model, greedy answers with the cache equal those without, over 100 conversations of 3 turns', {
  timeout: 20 * 60_000,
}, async (t) => {
  const modelDirectory = await defaultModel();
  const budgets = {
    threads: 2,
    deviceBytes: 96 * MIB,
    hostBytes: 256 * MIB,
    tileTokens: 256,
    // Short, so that short prompts fill some.
    chunkTokens: 32,
  };
  const backend = await testBackend(t, { modelDirectory, ...budgets });
  let fromHost = 0;
  for (let conversation = 0; conversation < CONVERSATIONS; conversation++) {
    const messages: ChatMessage[] = [{ role: 'system', content: SYSTEM }];
    for (let number = 0; number < 3; number++) {
      messages.push({ role: 'user', content: question(conversation, number) });
      const warm = await turn(backend, messages, '');
      const cold = await turn(backend, messages, `cold ${conversation} ${number}`);
      assert.equal(cold.cached, 0);
      assert.equal(warm.text, cold.text);
      assert.equal(warm.logprobs[0], cold.logprobs[0], 'the first logits are equal bit for bit');
      if (number > 0) assert(warm.cached > 0);
      fromHost += warm.usage.cachedTokens.host;
      messages.push({ role: 'assistant', content: warm.text });
      // Rows of the answer are settled before every other turn; now and then only host memory is left.
      if (conversation % 2 === 0) await backend.scheduler.idle();
      if (conversation % 5 === 0) {
        await backend.scheduler.idle();
        backend.cache.dropWarm();
      }
    }
  }
  assert(fromHost > 0);
});
