import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadLlamaCppGolden, loadTinyModels } from './golden.js';

test('the tiny models cover every architecture and both file formats', () => {
  const models = loadTinyModels();
  assert.deepEqual([...new Set(models.map((model) => model.architecture))].sort(), [
    'llama',
    'mistral',
    'qwen2',
    'qwen3',
  ]);
  assert.deepEqual([...new Set(models.map((model) => model.format))].sort(), ['gguf', 'hf']);
});

test('every tiny model has one finite row of logits per position, and rows differ', () => {
  for (const { name, logits, positions, vocab, tokens } of loadTinyModels()) {
    assert.equal(logits.length, positions.length * vocab, name);
    assert.ok(logits.every(Number.isFinite), name);
    assert.ok(
      positions.every((position) => position < tokens.length),
      name,
    );
    assert.notDeepEqual(logits.subarray(0, vocab), logits.subarray(vocab, 2 * vocab), name);
  }
});

test('the llama.cpp golden has at least 300 positions with consistent log-probabilities', () => {
  const { texts } = loadLlamaCppGolden();
  assert.ok(texts.reduce((sum, { tokens }) => sum + tokens.length - 1, 0) >= 300);
  for (const { tokens, q4_1, float32 } of texts) {
    for (const { nextLogprobs, topTokens, topLogprobs } of [q4_1, float32]) {
      assert.equal(nextLogprobs.length, tokens.length - 1);
      for (const [position, logprob] of nextLogprobs.entries()) {
        const rank = topTokens[position]!.indexOf(tokens[position + 1]!);
        assert.ok(
          rank < 0 ? logprob <= topLogprobs[position]!.at(-1)! : logprob === topLogprobs[position]![rank],
        );
      }
    }
  }
});
