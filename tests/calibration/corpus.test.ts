import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CORPUS_FILES, corpusPrompts, parseCorpus } from '../../src/calibration/corpus.js';

const GRAM_WORDS = 8;

const readCorpus = async () => {
  const texts = await Promise.all(CORPUS_FILES.map((file) => readFile(file, 'utf8')));
  return parseCorpus(texts.join('\n'));
};

test('the corpus that comes along answers its questions from the passages they name', async () => {
  const { passages, questions } = await readCorpus();
  assert.equal(new Set(passages.map(({ id }) => id)).size, passages.length);
  assert(questions.some((question) => question.passages.length === 2));
  for (const { question, answer, passages: ids } of questions) {
    const held = passages.filter(({ id }) => ids.includes(id));
    assert.equal(held.length, ids.length, question);
    const text = held.map((passage) => `${passage.title} ${passage.text}`).join(' ');
    const facts = answer!.match(/\b(?:\p{Lu}\w+|[\d,.]*\d)/gu) ?? [];
    assert.deepEqual(
      facts.filter((fact) => !text.includes(fact)),
      [],
      question,
    );
  }
});

test('passages of the corpus that comes along do not repeat each other', async () => {
  const seen = new Set<string>();
  for (const { text } of (await readCorpus()).passages) {
    const words = text.split(' ');
    for (let i = 0; i + GRAM_WORDS <= words.length; i++) {
      const gram = words.slice(i, i + GRAM_WORDS).join(' ');
      assert(!seen.has(gram), gram);
      seen.add(gram);
    }
  }
});

test('a prompt holds the passages with the answer among others, each once, in places that differ', async () => {
  const { questions, passages } = await readCorpus();
  const prompts = await corpusPrompts(CORPUS_FILES, { questions: questions.length, passages: 8 });
  const places = new Set<number>();
  for (const [i, prompt] of prompts.entries()) {
    assert.equal(prompt.question, questions[i]!.question);
    const texts = prompt.passages.map(({ text }) => text);
    assert.equal(new Set(texts).size, 8);
    for (const id of questions[i]!.passages) {
      const place = texts.indexOf(passages.find((passage) => passage.id === id)!.text);
      assert(place >= 0, prompt.question);
      places.add(place);
    }
  }
  assert.equal(places.size, 8, 'no place is without an answer');
  assert.deepEqual(await corpusPrompts(CORPUS_FILES, { questions: 2, passages: 8 }), prompts.slice(0, 2));
});

test('a file of another format is refused, and it is said what is wrong and what it should be', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-corpus-'));
  t.after(() => rm(directory, { recursive: true }));
  const file = join(directory, 'data');
  const refused = async (text: string | undefined, reason: RegExp) => {
    if (text !== undefined) await writeFile(file, text);
    await assert.rejects(corpusPrompts([file], { questions: 1, passages: 2 }), {
      code: 'invalid_value',
      message: reason,
    });
  };
  await refused(undefined, /ENOENT.*it should be/);
  await refused('{"id": "a", "text": "b"}\n{"what": 1}', /line 2 is neither a passage nor a question/);
  await refused('{"id": "a", "text": "b"}', /it has no questions/);
  await refused('{"question": "q?", "passages": ["c"]}', /no passage is called c/);
  await refused('not JSON', /JSON/);
  await refused('[{"question": 1}]', /expected string/i);
});

test('a file in the format of MuSiQue gives prompts too', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-corpus-'));
  t.after(() => rm(directory, { recursive: true }));
  const file = join(directory, 'musique.json');
  const words = Array.from({ length: 20 }, (_, i) => `word${i}`).join(' ');
  const question = { ctxs: [{ title: 'T', text: words }], question: 'q?', answers: ['a'] };
  await writeFile(file, JSON.stringify([question]));
  assert.deepEqual(await corpusPrompts([file], { questions: 5, passages: 3 }), [
    { passages: [{ text: `T\n${words}` }], question: 'q?' },
  ]);
});
