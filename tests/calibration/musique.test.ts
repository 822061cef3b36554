import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { passagePrompts } from '../../src/calibration/musique.js';

const words = (name: string): string => Array.from({ length: 60 }, (_, i) => `${name}${i}`).join(' ');

const question = (names: readonly string[]) => ({
  ctxs: names.map((name) => ({ title: name, text: words(name) })),
  question: `about ${names[0]}?`,
  answers: ['yes'],
});

test('a passage that repeats another one is replaced by one of another question', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-musique-'));
  t.after(() => rm(directory, { recursive: true }));
  const file = join(directory, 'questions.json');
  await writeFile(file, JSON.stringify([question(['a', 'a', 'b']), question(['c', 'd', 'e'])]));
  const [first, second] = passagePrompts(file, { questions: 2, passages: 3 });
  assert.deepEqual(
    first!.passages.map((passage) => passage[0]),
    ['a', 'b', 'c'],
  );
  assert.deepEqual(
    second!.passages.map((passage) => passage[0]),
    ['c', 'd', 'e'],
  );
});
