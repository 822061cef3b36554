import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerF1, answerWords } from '../../bench/blend/answer-score.js';

test('case, punctuation and articles are no part of an answer', () => {
  assert.deepEqual(answerWords('The  "Bruce Lee" Band, a trio.'), ['bruce', 'lee', 'band', 'trio']);
});

test('F1 counts the words that agree, each as often as it stands in both', () => {
  assert.equal(answerF1('Oxford', ['University of Oxford']), 0.5);
  assert.equal(answerF1('new new york', ['New York']), 0.8);
  assert.equal(answerF1('Paris', ['Rome']), 0);
  assert.equal(answerF1('the', ['a']), 1);
  assert.equal(answerF1('', ['Rome']), 0);
});

test('of several gold answers the best counts', () => {
  assert.equal(answerF1('Rome', ['the city of Rome', 'Rome']), 1);
});
