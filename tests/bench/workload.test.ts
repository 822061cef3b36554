import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Workload } from '../../bench/workload.js';

const PROMPTS = 2000;

function prompts(seed: number): (readonly number[])[] {
  const workload = new Workload({ seed, documents: 50, conversations: 5 });
  return Array.from({ length: PROMPTS }, () => workload.next());
}

test('the same seed gives the same prompts, another seed others', () => {
  assert.deepEqual(prompts(1), prompts(1));
  assert.notDeepEqual(prompts(1)[0], prompts(2)[0]);
});

test('every prompt is of byte tokens, and fits the context of the tiny model with its answer', () => {
  for (const prompt of prompts(3)) {
    assert(prompt.length > 0 && prompt.length < 2000);
    assert(prompt.every((token) => Number.isInteger(token) && token >= 0 && token < 256));
  }
});

test('prompts share prefixes: documents are asked again, conversations grow', () => {
  const beginnings = new Map<string, number>();
  for (const prompt of prompts(4)) {
    const beginning = prompt.slice(0, 200).join();
    beginnings.set(beginning, (beginnings.get(beginning) ?? 0) + 1);
  }
  const counts = [...beginnings.values()].sort((a, b) => b - a);
  assert(counts[0]! > PROMPTS / 20, 'one document is asked often');
  assert(counts.filter((count) => count > 1).length > 50, 'most things are asked again');
});
